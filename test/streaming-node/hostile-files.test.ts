/** What a data directory holds as text, against hostile bytes (hostile-bytes.ts): its descriptor and its catalog. */
import { beforeAll, describe, expect, it } from 'vitest'
import { hash64, loadChecksum } from '../../native-free-storage/index.ts'
import { TidelogError } from '../../src/errors.ts'
import { catalogPayload } from '../../src/log-store/catalog-entry.ts'
import { decodeDescriptor, encodeDescriptor } from '../../src/log-store/descriptor.ts'
import type { LogStore } from '../../src/log-store/log-store.ts'
import { VchannelCatalog } from '../../src/streaming-node/vchannel-catalog.ts'
import { budget } from '../budget.ts'
import { type HostileTarget, survive } from '../hostile-bytes.ts'

beforeAll(loadChecksum)

const runs = budget({ small: 600, ci: 10_000, soak: 3_000_000 })
const codes: readonly string[] = ['DATA_DIRECTORY_INVALID', 'FORMAT_UNKNOWN']
const isOwn = (error: unknown) => error instanceof TidelogError && codes.includes((error as TidelogError<string>).code)

/** A store that holds these payloads, a frame each: what the catalog reads when it is opened. */
function storeOf(payloads: readonly Buffer[]): LogStore {
  const frames = payloads.map((payload, lsn) => ({
    kind: 'records',
    gap: null,
    *[Symbol.iterator]() {
      yield { lsn, payload }
    },
  }))
  const store: Partial<Record<keyof LogStore, unknown>> = {
    async *read() {
      yield* frames
    },
  }
  return store as unknown as LogStore
}

/** The checksum in the last line is made to fit, where there is such a line. */
function mendDescriptor(bytes: Buffer): Buffer {
  const at = bytes.lastIndexOf(',\n  "checksum": "')
  if (at < 0) return bytes
  const digits = hash64(bytes.subarray(0, at)).toString(16).padStart(16, '0')
  bytes.write(digits, at + ',\n  "checksum": "'.length, 'latin1')
  return bytes
}

describe('hostile bytes of a data directory', () => {
  it('descriptor: changed bytes and noise are refused or say what can be', async () => {
    const descriptor = { pchannels: 4, durability: 'disk', createdMs: 1_700_000_000_000 } as const
    const target: HostileTarget = {
      sound: [await encodeDescriptor(descriptor), await encodeDescriptor({ ...descriptor, durability: 'os' })],
      mend: mendDescriptor,
      decode: async (bytes) => {
        const { pchannels, durability } = await decodeDescriptor(bytes, 'tidelog.json')
        expect(Number.isInteger(pchannels) && pchannels >= 1).toBe(true)
        expect(['disk', 'os']).toContain(durability)
      },
    }
    expect((await survive('descriptor', target, isOwn, runs)).inputs).toBeGreaterThan(0)
  })

  it('catalog: changed bytes and noise are refused or name a pchannel that is there', async () => {
    const entry = { name: 'by-dev-rootcoord-dml_0', pchannel: 3, createdMs: 1_700_000_000_000 }
    const before = catalogPayload({ ...entry, name: 'orders' })
    const target: HostileTarget = {
      sound: [catalogPayload(entry), before],
      decode: async (bytes) => {
        const options = { pchannels: 4, vchannelsMax: 10, nowMs: () => 0 }
        const catalog = await VchannelCatalog.open(storeOf([before, bytes]), options)
        for (const { name, group } of catalog.list()) {
          expect(group).toBeLessThan(4)
          expect(name).not.toBe('')
        }
      },
    }
    expect((await survive('catalog', target, isOwn, runs)).inputs).toBeGreaterThan(0)
  })
})
