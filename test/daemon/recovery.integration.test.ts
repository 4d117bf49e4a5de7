/** `recovery: strict` in the daemon: a pchannel whose end cannot be proven is failed, the others serve. */
import { cp, open } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, expect, describe as suite, test } from 'vitest'
import { describe, nodeEnvironment } from '../../native-free-storage/index.ts'
import { DaemonFixture, get, text, textsOf, until } from './open-test-daemon.ts'

let fixture: DaemonFixture
/** What a daemon that was killed while it was idle leaves; and a copy of it, for one test. */
let left: string
let killed: string
let copies = 0

beforeAll(async () => {
  fixture = await DaemonFixture.create()
  const daemon = await fixture.start({ pchannels: 2 })
  const client = await fixture.connect(daemon)
  for (const name of ['a', 'b'])
    for (let index = 0; index < 3; index++) await client.append(name, text(`${name}${index}`))
  for (const log of ['catalog', 'pchannels/0', 'pchannels/1']) {
    await until(
      () => describe(nodeEnvironment(), join(fixture.data, log)),
      ({ nextLsn, provenNextLsn }) => nextLsn! > 0 && nextLsn === provenNextLsn,
    )
  }
  left = join(fixture.directory, 'left')
  await cp(fixture.data, left, { recursive: true, filter: (path) => !/\/LOCK/.test(path) })
  await daemon.stop()
})

beforeEach(async () => {
  killed = join(fixture.directory, `killed-${copies++}`)
  await cp(left, killed, { recursive: true })
})

afterAll(() => fixture.dispose())

/** A write was under way. */
async function tear(log: string): Promise<void> {
  const directory = join(killed, log)
  const { segments } = await describe(nodeEnvironment(), directory)
  const { file, end } = segments.at(-1)!
  const torn = await open(join(directory, file), 'r+')
  await torn.write(Buffer.alloc(600, 0xab), 0, 600, end!)
  await torn.close()
}

suite('a daemon with recovery: strict', () => {
  test('starts on what was killed while it was idle', async () => {
    const daemon = await fixture.start({ data: killed, recovery: 'strict' })
    expect(daemon.status().map(({ state }) => state)).not.toContain('failed')
    expect(await textsOf(await fixture.connect(daemon), 'a')).toEqual(['a0', 'a1', 'a2'])
  })

  test('fails the pchannel with a torn end and says why; the others serve; recovery: tail opens it', async () => {
    await tear('pchannels/0')
    const strict = await fixture.start({ data: killed, recovery: 'strict' })
    const [failed, other] = strict.status()
    expect(failed).toMatchObject({ state: 'failed', message: expect.stringContaining('RECOVERY_REFUSED') })
    expect(failed!.message).toContain('--recovery tail')
    expect(other!.state).not.toBe('failed')
    const { status, body } = await get(strict, '/health/data')
    expect(status).toBe(503)
    expect(body).toContain('RECOVERY_REFUSED')
    const client = await fixture.connect(strict)
    await client.append('b', text('b3'))
    expect(await textsOf(client, 'b')).toEqual(['b0', 'b1', 'b2', 'b3'])
    await strict.stop()

    const tail = await fixture.start({ data: killed })
    expect(tail.status().map(({ state }) => state)).not.toContain('failed')
    expect(await textsOf(await fixture.connect(tail), 'a')).toEqual(['a0', 'a1', 'a2'])
  })

  test('does not start when the end of its catalog is torn', async () => {
    await tear('catalog')
    await expect(fixture.start({ data: killed, recovery: 'strict' })).rejects.toMatchObject({
      code: 'RECOVERY_REFUSED',
    })
    const daemon = await fixture.start({ data: killed })
    expect(await textsOf(await fixture.connect(daemon), 'b')).toEqual(['b0', 'b1', 'b2'])
  })
})
