import { Writable } from 'node:stream'
import { describe, expect, test } from 'vitest'
import { Output } from '../../src/cli/output.ts'

describe('standard output', () => {
  test('what is written in one turn leaves in one write, in order, text and bytes alike', async () => {
    const chunks: string[] = []
    const out = new Output(
      new Writable({
        write: (chunk: Buffer, _encoding, done) => {
          chunks.push(chunk.toString('latin1'))
          done()
        },
      }),
    )
    expect(out.write('a')).toBe(undefined)
    expect(out.write(Buffer.from([0xff]))).toBe(undefined)
    expect(out.write('b')).toBe(undefined)
    await out.flush()
    await out.write('c')
    await out.flush()
    expect(chunks).toEqual(['a\u00ffb', 'c'])
  })

  test('a writer waits while the output is behind', async () => {
    let take: (() => void) | undefined
    const out = new Output(
      new Writable({
        write: (_chunk, _encoding, done) => {
          take = done
        },
      }),
    )
    const behind = out.write('x'.repeat(64 * 1024))
    expect(behind).toBeInstanceOf(Promise)
    let settled = false
    void behind!.then(() => {
      settled = true
    })
    await new Promise(setImmediate)
    expect(settled).toBe(false)
    take!()
    await behind
  })
})
