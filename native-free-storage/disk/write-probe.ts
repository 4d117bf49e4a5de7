/**
 * The start-up probe: finds out in at most a second how this disk takes synced writes best.
 *
 * A file like those of the pool (zero-filled, synced) is overwritten the way the log does it, in flushes of 4 KiB,
 * 64 KiB and 1 MiB, each way at several depths, in turns of a few milliseconds until the time is up. Turns, because
 * disks have moods: what runs one after the other is not comparable.
 *
 * `dsync` is one write on an O_DSYNC descriptor; `fdatasync` is a write and a sync (the sync also covers all earlier
 * writes that have returned, so a flush never waits for a sync that began before it). Which is faster depends on the
 * disk: O_DSYNC wins on the virtual disks that were measured, and is reported to lose 2.4 times on a consumer SSD.
 *
 * Depth is never above the number of operations that make progress at once (libuv has 4 threads unless
 * UV_THREADPOOL_SIZE says otherwise): one more would only queue behind the others. It may be all of them: with 4
 * threads, depth 4 wrote 1.3 to 1.5 times what a synchronous loop writes, and depth 3 1.1 to 1.3; a read that finds
 * every thread busy waits for the next of them to return, a quarter of a flush on average. A greater depth also costs
 * latency, so it must earn it: the smallest depth within 10 % of the best is taken. `dsync` wins within the same 10 %.
 *
 * The result is kept in `write-way.json` in the probed directory, and believed as long as the device, the file
 * system, its size and the number of operations at once are the same.
 */
import type { Environment } from '../environment.ts'
import { TidelogError } from '../errors.ts'
import { type Disk, type DiskFile, isDiskError } from './disk.ts'

export type WriteMode = 'dsync' | 'fdatasync'

/** What was measured in one way at one depth: bytes a second, by size of flush. */
export interface WriteMeasurement {
  mode: WriteMode
  depth: number
  bytesPerSecond: Record<string, number>
}

export interface WriteWay {
  mode: WriteMode
  /** How many flushes may be in flight. */
  depth: number
  /** Why, in words: for the log and for `doctor`. */
  reason: string
  measured?: WriteMeasurement[] | undefined
}

export interface ProbeOptions {
  override?: { mode?: WriteMode | undefined; depth?: number | undefined } | undefined
  /** How long the probe may take; default 1,000. */
  maxMs?: number | undefined
  /** False: only looks. What was measured is not kept, and what a probe that died has left stays. Default: true. */
  keep?: boolean | undefined
}

/** An operator may ask for more than the probe would; beyond this it is a mistake. */
export const writeDepthMax = 64

export const writeWayFileName = 'write-way.json'

export const probeNamePrefix = 'write-probe-'
const resultVersion = 1
const flushSizes = [4096, 64 * 1024, 1024 * 1024]
const probeFileBytes = 4 * 1024 * 1024
const turnsMax = 5
/** Of the throughput of the best depth, what a smaller one must reach. */
const goodEnough = 0.9

/** Whether a name in the pool's directory is the probe's. */
export function isProbeName(name: string): boolean {
  return name === writeWayFileName || name.startsWith(probeNamePrefix)
}

/**
 * Chooses how to write in `directory`, which must exist. Never fails for what the disk does: without a measurement
 * it falls back to a way that is right everywhere, and says so.
 *
 * @throws TidelogError INVALID_ARGUMENT for an override that makes no sense.
 */
export async function probeWriteWay(
  environment: Environment,
  directory: string,
  options: ProbeOptions = {},
): Promise<WriteWay> {
  const { override = {}, maxMs = 1000, keep: keeps = true } = options
  checkOverride(override)
  if (override.mode !== undefined && override.depth !== undefined) {
    return { mode: override.mode, depth: override.depth, reason: 'mode and depth were given' }
  }
  const traits = environment.disk.traits ?? { parallelOperations: 4, dsyncTrusted: true }
  const modes: WriteMode[] =
    override.mode !== undefined ? [override.mode] : traits.dsyncTrusted ? ['dsync', 'fdatasync'] : ['fdatasync']
  const depthMax = Math.max(1, Math.min(writeDepthMax, traits.parallelOperations))

  const key = await deviceKey(environment.disk, directory, traits.parallelOperations)
  const kept = key === undefined ? undefined : await readKept(environment.disk, directory, key)
  const known = kept?.filter((one) => modes.includes(one.mode))
  if (known !== undefined && modes.every((mode) => known.some((one) => one.mode === mode))) {
    return decide(known, override, traits, 'kept from an earlier start')
  }

  const measured = await measure(environment, directory, modes, depthMax, maxMs, keeps)
  if (typeof measured === 'string') {
    return {
      mode: override.mode ?? (traits.dsyncTrusted ? 'dsync' : 'fdatasync'),
      depth: override.depth ?? Math.min(2, depthMax),
      reason: `not measured (${measured}); a cautious choice`,
    }
  }
  // With a mode given only that one was measured; a later start without it measures both.
  if (keeps && key !== undefined) await keep(environment, directory, key, measured)
  return decide(measured, override, traits, 'measured')
}

function checkOverride(override: { mode?: unknown; depth?: unknown }): void {
  const { mode, depth } = override
  if (mode !== undefined && mode !== 'dsync' && mode !== 'fdatasync') {
    throw new TidelogError('INVALID_ARGUMENT', `The write mode must be dsync or fdatasync, not ${String(mode)}.`)
  }
  if (depth === undefined) return
  if (typeof depth !== 'number' || !Number.isInteger(depth) || depth < 1 || depth > writeDepthMax) {
    throw new TidelogError(
      'INVALID_ARGUMENT',
      `The write depth must be a whole number from 1 to ${writeDepthMax}, not ${String(depth)}.`,
    )
  }
}

function decide(
  measured: WriteMeasurement[],
  override: { mode?: WriteMode | undefined; depth?: number | undefined },
  traits: { dsyncTrusted: boolean },
  origin: string,
): WriteWay {
  const scored = measured.map((one) => ({ ...one, score: score(one, measured) }))
  const bestOf = (some: typeof scored) => some.reduce((a, b) => (b.score > a.score ? b : a))
  const fastest = bestOf(scored)
  // Where both do about the same, the one that takes one thread for one call, and not for two.
  const dsync = scored.filter((one) => one.mode === 'dsync' && one.score >= fastest.score * goodEnough)
  const best = dsync.length > 0 ? bestOf(dsync) : fastest
  const sameMode = scored.filter((one) => one.mode === best.mode).sort((a, b) => a.depth - b.depth)
  const chosen = sameMode.find((one) => one.score >= best.score * goodEnough) ?? best
  const depth = override.depth ?? chosen.depth

  const rate = (one: WriteMeasurement) =>
    Object.entries(one.bytesPerSecond)
      .map(([size, bytes]) => `${Number(size) / 1024} KiB ${(bytes / 1e6).toFixed(1)} MB/s`)
      .join(', ')
  const parts = [`${origin}: ${chosen.mode} at depth ${chosen.depth} writes ${rate(chosen)}`]
  const rivals = scored.filter((one) => one.mode !== chosen.mode)
  if (rivals.length > 0) {
    const rival = bestOf(rivals)
    parts.push(`${rival.mode} at its best (depth ${rival.depth}) ${rate(rival)}`)
  }
  if (override.mode !== undefined) parts.push('the mode was given')
  else if (!traits.dsyncTrusted) parts.push('O_DSYNC does not reach the medium on this platform')
  if (override.depth !== undefined) parts.push('the depth was given')
  return { mode: chosen.mode, depth, reason: parts.join('; '), measured }
}

/** Mean over the flush sizes of the share of the best rate: small and large flushes weigh the same. */
function score(one: WriteMeasurement, all: readonly WriteMeasurement[]): number {
  let sum = 0
  for (const size of flushSizes) {
    const best = Math.max(...all.map((other) => other.bytesPerSecond[size] ?? 0))
    if (best > 0) sum += (one.bytesPerSecond[size] ?? 0) / best
  }
  return sum
}

// ---- Measuring ----

interface Cell {
  mode: WriteMode
  depth: number
  size: number
  bytes: number
  ms: number
}

/** Measurements, or why there are none. */
async function measure(
  environment: Environment,
  directory: string,
  modes: readonly WriteMode[],
  depthMax: number,
  maxMs: number,
  tidies: boolean,
): Promise<WriteMeasurement[] | string> {
  const { clock } = environment
  const probe = new Probe(environment, directory, clock.monotonicMs() + maxMs * 0.9)
  let timer: { cancel(): void } | undefined
  // A write that does not return must not hold the start: the probe goes on without anybody waiting, and ends itself.
  const late = new Promise<string>((resolve) => {
    timer = clock.after(maxMs, () => resolve(`no answer within ${maxMs} ms`))
  })
  const run = probe.run(modes, depths(depthMax), tidies).catch((error: unknown) => {
    if (isDiskError(error)) return `the probe failed with ${error.code}`
    throw error
  })
  try {
    return await Promise.race([run, late])
  } finally {
    timer?.cancel()
  }
}

function depths(max: number): number[] {
  const found = [1]
  for (let depth = 2; depth < max; depth *= 2) found.push(depth)
  if (max > 1) found.push(max)
  return found
}

class Probe {
  readonly #environment: Environment
  readonly #directory: string
  readonly #endMs: number
  readonly #bytes: Uint8Array

  constructor(environment: Environment, directory: string, endMs: number) {
    this.#environment = environment
    this.#directory = directory
    this.#endMs = endMs
    this.#bytes = new Uint8Array(flushSizes.at(-1)!)
  }

  async run(
    modes: readonly WriteMode[],
    depthList: readonly number[],
    tidies: boolean,
  ): Promise<WriteMeasurement[] | string> {
    const { disk, clock } = this.#environment
    if (tidies) await this.#removeLeftOvers()
    const nonce = Buffer.from(this.#environment.randomBytes(6)).toString('hex')
    const path = `${this.#directory}/${probeNamePrefix}${nonce}`
    const files: Partial<Record<WriteMode, DiskFile>> = {}
    try {
      files.fdatasync = await disk.create(path)
      if (modes.includes('dsync')) files.dsync = await disk.open(path, 'write', 'dsync')
      // Nothing is left behind, whatever happens from here on.
      await disk.unlink(path)
      await this.#prepare(files.fdatasync)

      const cells: Cell[] = []
      for (const depth of depthList)
        for (const size of flushSizes) for (const mode of modes) cells.push({ mode, depth, size, bytes: 0, ms: 0 })
      this.#bytes.fill(0x5a)
      for (let turn = 0; turn < turnsMax; turn++) {
        const share = (this.#endMs - clock.monotonicMs()) / ((turnsMax - turn) * cells.length)
        for (const cell of cells) {
          if (clock.monotonicMs() >= this.#endMs) return summary(cells)
          await this.#turn(cell, files[cell.mode]!, share)
        }
      }
      return summary(cells)
    } finally {
      await files.dsync?.close()
      await files.fdatasync?.close()
    }
  }

  async #prepare(file: DiskFile): Promise<void> {
    for (let position = 0; position < probeFileBytes; position += this.#bytes.length) {
      await file.write(this.#bytes, position)
    }
    await file.sync()
  }

  /** Keeps `depth` flushes in flight for `forMs`, each slot at least once. */
  async #turn(cell: Cell, file: DiskFile, forMs: number): Promise<void> {
    const { clock } = this.#environment
    const begin = clock.monotonicMs()
    const end = Math.min(this.#endMs, begin + forMs)
    const chunk = this.#bytes.subarray(0, cell.size)
    let position = 0
    let written = 0
    const slot = async () => {
      do {
        const at = position
        position = (position + cell.size) % probeFileBytes
        await file.write(chunk, at)
        if (cell.mode === 'fdatasync') await file.sync()
        written += cell.size
      } while (clock.monotonicMs() < end)
    }
    const slots = await Promise.allSettled(Array.from({ length: cell.depth }, slot))
    for (const one of slots) if (one.status === 'rejected') throw one.reason
    cell.bytes += written
    cell.ms += clock.monotonicMs() - begin
  }

  async #removeLeftOvers(): Promise<void> {
    const { disk } = this.#environment
    for (const name of await disk.list(this.#directory)) {
      if (!name.startsWith(probeNamePrefix)) continue
      await disk.unlink(`${this.#directory}/${name}`).catch((error: unknown) => {
        if (!isDiskError(error, 'ENOENT')) throw error
      })
    }
  }
}

function summary(cells: readonly Cell[]): WriteMeasurement[] | string {
  const found: WriteMeasurement[] = []
  for (const { mode, depth, size, bytes, ms } of cells) {
    if (ms <= 0) continue
    let one = found.find((other) => other.mode === mode && other.depth === depth)
    if (one === undefined) {
      one = { mode, depth, bytesPerSecond: {} }
      found.push(one)
    }
    one.bytesPerSecond[size] = Math.round((bytes / ms) * 1000)
  }
  // A way that was not measured at every size cannot be compared.
  const whole = found.filter((one) => flushSizes.every((size) => one.bytesPerSecond[size] !== undefined))
  const modes = new Set(cells.map((cell) => cell.mode))
  const compared = [...modes].every((mode) => whole.some((one) => one.mode === mode))
  return compared ? whole : 'the time was too short for this disk'
}

// ---- Keeping the result ----

/** The same after a restart of the machine; another disk, another size or another number of threads changes it. */
async function deviceKey(disk: Disk, directory: string, parallelOperations: number): Promise<string | undefined> {
  try {
    const [identity, space] = await Promise.all([disk.identify(directory), disk.space(directory)])
    return `${identity.fileSystem}/${identity.device}/${space.totalBytes}/${parallelOperations}`
  } catch (error) {
    if (isDiskError(error)) return undefined
    throw error
  }
}

async function readKept(disk: Disk, directory: string, key: string): Promise<WriteMeasurement[] | undefined> {
  try {
    const file = await disk.open(`${directory}/${writeWayFileName}`, 'read')
    try {
      const bytes = new Uint8Array(64 * 1024)
      const length = await file.read(bytes, 0, bytes.length, 0)
      const value: unknown = JSON.parse(new TextDecoder().decode(bytes.subarray(0, length)))
      return parseKept(value, key)
    } finally {
      await file.close()
    }
  } catch {
    // Absent, damaged or unreadable: measured again.
    return undefined
  }
}

function parseKept(value: unknown, key: string): WriteMeasurement[] | undefined {
  if (typeof value !== 'object' || value === null) return undefined
  const kept = value as { version?: unknown; key?: unknown; measured?: unknown }
  if (kept.version !== resultVersion || kept.key !== key || !Array.isArray(kept.measured)) return undefined
  for (const one of kept.measured as Partial<WriteMeasurement>[]) {
    if (one?.mode !== 'dsync' && one?.mode !== 'fdatasync') return undefined
    if (!Number.isInteger(one.depth) || one.depth! < 1 || one.depth! > writeDepthMax) return undefined
    const { bytesPerSecond } = one
    if (typeof bytesPerSecond !== 'object' || bytesPerSecond === null) return undefined
    if (!flushSizes.every((size) => Number.isFinite(bytesPerSecond[size]))) return undefined
  }
  return kept.measured as WriteMeasurement[]
}

/** A cache: not synced, and no error when it cannot be kept. */
async function keep(
  environment: Environment,
  directory: string,
  key: string,
  measured: WriteMeasurement[],
): Promise<void> {
  const { disk } = environment
  const path = `${directory}/${writeWayFileName}`
  // Named as a left-over of the probe, which the next one removes.
  const draft = `${directory}/${probeNamePrefix}${Buffer.from(environment.randomBytes(6)).toString('hex')}`
  try {
    const file = await disk.create(draft)
    try {
      const text = JSON.stringify({ version: resultVersion, key, measured }, undefined, 1)
      await file.write(new TextEncoder().encode(`${text}\n`), 0)
    } finally {
      await file.close()
    }
    await disk.rename(draft, path)
  } catch {
    await disk.unlink(draft).catch(() => undefined)
  }
}
