/**
 * How long synced writes take in a directory, for `doctor`: single ones of several sizes, each as one write on an O_DSYNC
 * descriptor and as a write and an fdatasync; and several at once. The file is zero-filled and synced before, as those of
 * the log are, has no name from its first moment on (a process that is killed leaves nothing), and is at most 4 MiB.
 * Written are at most 20 MiB.
 */
import type { Environment } from '../environment.ts'
import { type DiskFile, isDiskError } from './disk.ts'
import { probeNamePrefix, type WriteMode } from './write-probe.ts'

export interface SyncLatency {
  mode: WriteMode
  /** Bytes of each write. */
  bytes: number
  samples: number
  p50Ms: number
  p99Ms: number
  maxMs: number
}

export interface ParallelWrites {
  /** Synced writes in flight, 64 KiB each. */
  depth: number
  bytesPerSecond: number
}

export interface SyncMeasurement {
  latencies: SyncLatency[]
  parallel: ParallelWrites[]
  /** Why there is less than all of it; null when there is all. */
  fault: string | null
}

export interface SyncMeasurementOptions {
  /** How long all of it may take; default 3,000; a write that does not return is waited for 2 s longer. */
  maxMs?: number | undefined
}

const HUNG_MS = 2_000
const MIB = 1024 * 1024
const FILE_BYTES = 4 * MIB
const SIZES: readonly { bytes: number; samplesMax: number }[] = [
  { bytes: 512, samplesMax: 100 },
  { bytes: 4096, samplesMax: 100 },
  { bytes: 64 * 1024, samplesMax: 16 },
  { bytes: MIB, samplesMax: 3 },
]
const DEPTHS = [1, 2, 4]
const PARALLEL_BYTES = 64 * 1024
const PARALLEL_WRITES_MAX = 32
/** Of the time, what is left for the parallel writes. */
const PARALLEL_SHARE = 0.25

/** Measures in `directory`, which must exist. Never rejects for what the disk does. */
export async function measureSyncLatency(
  environment: Environment,
  directory: string,
  options: SyncMeasurementOptions = {},
): Promise<SyncMeasurement> {
  const { maxMs = 3_000 } = options
  const lateMs = maxMs + HUNG_MS
  const found: SyncMeasurement = { latencies: [], parallel: [], fault: null }
  const measuring = new Measuring(environment, directory, found, environment.clock.monotonicMs() + maxMs)
  let timer: { cancel(): void } | undefined
  // A write that does not return is not waited for: it ends by itself, and nobody looks.
  const late = new Promise<string>((resolve) => {
    timer = environment.clock.after(lateMs, () => resolve(`a synced write did not return within ${lateMs} ms`))
  })
  const run = measuring.run().then(
    () => null,
    (error: unknown) => {
      if (isDiskError(error)) return `${error.operation} of ${error.path} failed with ${error.code}`
      throw error
    },
  )
  try {
    const fault = await Promise.race([run, late])
    return { latencies: [...found.latencies], parallel: [...found.parallel], fault }
  } finally {
    timer?.cancel()
  }
}

class Measuring {
  readonly #environment: Environment
  readonly #directory: string
  readonly #found: SyncMeasurement
  readonly #endMs: number
  readonly #bytes = Buffer.alloc(MIB)

  constructor(environment: Environment, directory: string, found: SyncMeasurement, endMs: number) {
    this.#environment = environment
    this.#directory = directory
    this.#found = found
    this.#endMs = endMs
  }

  async run(): Promise<void> {
    const { disk } = this.#environment
    const path = `${this.#directory}/${probeNamePrefix}${Buffer.from(this.#environment.randomBytes(6)).toString('hex')}`
    const plain = await disk.create(path)
    let dsync: DiskFile | undefined
    try {
      dsync = await disk.open(path, 'write', 'dsync').finally(() => disk.unlink(path))
      for (let position = 0; position < FILE_BYTES; position += this.#bytes.length) {
        await plain.write(this.#bytes, position)
      }
      await plain.sync()
      await this.#latencies(dsync, plain)
      await this.#parallel(dsync)
    } finally {
      await dsync?.close()
      await plain.close()
    }
  }

  async #latencies(dsync: DiskFile, plain: DiskFile): Promise<void> {
    const { clock } = this.#environment
    const cells = SIZES.flatMap((size) => (['dsync', 'fdatasync'] as const).map((mode) => ({ ...size, mode })))
    const forAllMs = (this.#endMs - clock.monotonicMs()) * (1 - PARALLEL_SHARE)
    const beginMs = clock.monotonicMs()
    for (const [index, { bytes, samplesMax, mode }] of cells.entries()) {
      const endMs = beginMs + (forAllMs * (index + 1)) / cells.length
      const chunk = this.#bytes.subarray(0, bytes)
      const times: number[] = []
      let position = 0
      do {
        const fromMs = clock.monotonicMs()
        if (mode === 'dsync') await dsync.write(chunk, position)
        else {
          await plain.write(chunk, position)
          await plain.sync()
        }
        times.push(clock.monotonicMs() - fromMs)
        position = (position + bytes) % FILE_BYTES
      } while (times.length < samplesMax && clock.monotonicMs() < endMs)
      times.sort((a, b) => a - b)
      this.#found.latencies.push({
        mode,
        bytes,
        samples: times.length,
        p50Ms: quantile(times, 0.5),
        p99Ms: quantile(times, 0.99),
        maxMs: times.at(-1)!,
      })
    }
  }

  async #parallel(dsync: DiskFile): Promise<void> {
    const { clock } = this.#environment
    const chunk = this.#bytes.subarray(0, PARALLEL_BYTES)
    const shareMs = (this.#endMs - clock.monotonicMs()) / DEPTHS.length
    for (const depth of DEPTHS) {
      const fromMs = clock.monotonicMs()
      let issued = 0
      let written = 0
      const slot = async (): Promise<void> => {
        do {
          const position = (issued++ * PARALLEL_BYTES) % FILE_BYTES
          await dsync.write(chunk, position)
          written += PARALLEL_BYTES
        } while (issued < PARALLEL_WRITES_MAX && clock.monotonicMs() - fromMs < shareMs)
      }
      await Promise.all(Array.from({ length: depth }, slot))
      const seconds = Math.max(1e-6, (clock.monotonicMs() - fromMs) / 1000)
      this.#found.parallel.push({ depth, bytesPerSecond: Math.round(written / seconds) })
    }
  }
}

/** Of sorted values: the least that is not below the share `q` of them. */
function quantile(sorted: readonly number[], q: number): number {
  return sorted[Math.min(sorted.length - 1, Math.ceil(q * sorted.length) - 1)]!
}
