/**
 * A frame that waits for its place in the log: measured, but without LSN, tick or position yet.
 */
import { assert, type TidelogError } from '../errors.ts'
import type { BodyHead } from '../format/body-head.ts'
import { type BodyLimits, type BodyPlan, BodyPlanner, type RecordInput } from '../format/body-plan.ts'
import { writeBody } from '../format/body-writer.ts'
import { hash64 } from '../format/checksum.ts'
import { FRAME_HEADER_BYTES, FrameKind } from '../format/frame-header.ts'
import { encodeGap, GAP_BODY_BYTES, type Gap } from '../format/gap.ts'

/** Where a frame ended up. LSNs and ticks of its first and last record. */
export interface AppendResult {
  firstLsn: number
  lastLsn: number
  firstTimeTick: bigint
  lastTimeTick: bigint
}

/** Null: the frame may enter the log. */
export type Admit = () => TidelogError<string> | null

export interface PendingFrame {
  readonly kind: FrameKind
  readonly recordCount: number
  readonly bodyBytes: number
  readonly nodeSection: Buffer | null
  readonly vchannels: readonly string[]
  /** The frame's first tick is not below it. */
  readonly barrierTick: bigint
  /** What the frame counts for in the queue. */
  readonly queuedBytes: number
  /** LSNs that it takes. */
  readonly lsnCount: number
  /** Asked in the turn in which the frame would get its LSNs, in the order of the log; an error refuses it. */
  readonly admit: Admit | null
  /** Whether its payloads are still as long as they were when it was measured: false is the caller's mistake. */
  isIntact(): boolean
  /** Writes the body and returns its hash. Called once, or again when the frame moves to another segment. */
  writeBody(target: Buffer, offset: number): bigint
  settle(baseLsn: number, baseTimeTick: bigint): void
  fail(error: TidelogError): void
}

const NO_VCHANNELS: readonly string[] = []

/** One caller's batch: one frame, one promise. */
export class BatchFrame implements PendingFrame {
  readonly kind = FrameKind.records
  readonly nodeSection = null
  readonly barrierTick: bigint
  readonly admit: Admit | null
  readonly #plan: BodyPlan
  readonly #resolve: (result: AppendResult) => void
  readonly #reject: (error: TidelogError) => void

  constructor(
    plan: BodyPlan,
    barrierTick: bigint,
    admit: Admit | null,
    resolve: (result: AppendResult) => void,
    reject: (error: TidelogError) => void,
  ) {
    this.#plan = plan
    this.admit = admit
    this.barrierTick = barrierTick
    this.#resolve = resolve
    this.#reject = reject
  }

  get recordCount(): number {
    return this.#plan.recordCount
  }

  get lsnCount(): number {
    return this.#plan.recordCount
  }

  get bodyBytes(): number {
    return this.#plan.bodyBytes
  }

  get queuedBytes(): number {
    return this.#plan.bodyBytes
  }

  get vchannels(): readonly string[] {
    return this.#plan.vchannels
  }

  isIntact(): boolean {
    return planIsIntact(this.#plan)
  }

  writeBody(target: Buffer, offset: number): bigint {
    return writeBody(this.#plan, target, offset)
  }

  settle(baseLsn: number, baseTimeTick: bigint): void {
    this.#resolve(rangeOf(baseLsn, baseTimeTick, this.recordCount))
  }

  fail(error: TidelogError): void {
    this.#reject(error)
  }
}

/** Single appends of many callers, one promise each. */
export class GatheredFrame implements PendingFrame {
  readonly kind = FrameKind.records
  readonly nodeSection = null
  readonly admit = null
  barrierTick = 0n
  readonly #planner: BodyPlanner
  #plan: BodyPlan | null = null
  readonly #resolves: ((result: AppendResult) => void)[] = []
  readonly #rejects: ((error: TidelogError) => void)[] = []

  constructor(limits: BodyLimits) {
    this.#planner = new BodyPlanner(limits)
  }

  /** Throws INVALID_ARGUMENT or LIMIT_EXCEEDED; then nothing has been added. */
  add(
    record: RecordInput,
    barrierTick: bigint,
    resolve: (result: AppendResult) => void,
    reject: (error: TidelogError) => void,
  ): void {
    assert(this.#plan === null, 'nothing joins a frame that was measured')
    this.#planner.add(record)
    if (barrierTick > this.barrierTick) this.barrierTick = barrierTick
    this.#resolves.push(resolve)
    this.#rejects.push(reject)
  }

  get recordCount(): number {
    return this.#resolves.length
  }

  get lsnCount(): number {
    return this.#resolves.length
  }

  /** Fixes what is in the frame: nothing is added afterwards. */
  get bodyBytes(): number {
    return this.#planned().bodyBytes
  }

  get queuedBytes(): number {
    return this.#planner.bytes
  }

  get vchannels(): readonly string[] {
    return this.#planned().vchannels
  }

  isIntact(): boolean {
    return planIsIntact(this.#planned())
  }

  writeBody(target: Buffer, offset: number): bigint {
    return writeBody(this.#planned(), target, offset)
  }

  settle(baseLsn: number, baseTimeTick: bigint): void {
    const resolves = this.#resolves
    let tick = baseTimeTick
    for (let index = 0; index < resolves.length; index++, tick += 1n) {
      const lsn = baseLsn + index
      resolves[index]!({ firstLsn: lsn, lastLsn: lsn, firstTimeTick: tick, lastTimeTick: tick })
    }
  }

  fail(error: TidelogError): void {
    for (const reject of this.#rejects) reject(error)
  }

  #planned(): BodyPlan {
    this.#plan ??= this.#planner.finish()
    return this.#plan
  }
}

/** A body that a client encoded, checked when it was received. */
export interface ReceivedBody {
  bytes: Buffer
  hash: bigint
  head: BodyHead
}

export class ReceivedFrame implements PendingFrame {
  readonly kind = FrameKind.records
  readonly barrierTick: bigint
  readonly nodeSection: Buffer | null
  readonly admit: Admit | null
  readonly #body: ReceivedBody
  readonly #resolve: (result: AppendResult) => void
  readonly #reject: (error: TidelogError) => void

  constructor(
    body: ReceivedBody,
    nodeSection: Buffer | null,
    barrierTick: bigint,
    admit: Admit | null,
    resolve: (result: AppendResult) => void,
    reject: (error: TidelogError) => void,
  ) {
    this.#body = body
    this.nodeSection = nodeSection
    this.barrierTick = barrierTick
    this.admit = admit
    this.#resolve = resolve
    this.#reject = reject
  }

  get recordCount(): number {
    return this.#body.head.recordCount
  }

  get lsnCount(): number {
    return this.#body.head.recordCount
  }

  get bodyBytes(): number {
    return this.#body.bytes.length
  }

  get queuedBytes(): number {
    return this.#body.bytes.length
  }

  get vchannels(): readonly string[] {
    return this.#body.head.vchannels
  }

  isIntact(): boolean {
    return this.#body.bytes.length > 0
  }

  writeBody(target: Buffer, offset: number): bigint {
    this.#body.bytes.copy(target, offset)
    return this.#body.hash
  }

  settle(baseLsn: number, baseTimeTick: bigint): void {
    this.#resolve(rangeOf(baseLsn, baseTimeTick, this.recordCount))
  }

  fail(error: TidelogError): void {
    this.#reject(error)
  }
}

/** A frame of the log's own: durable marker, gap. Nobody waits for it. */
export class ControlFrame implements PendingFrame {
  readonly kind: FrameKind
  readonly recordCount = 0
  readonly nodeSection = null
  readonly admit = null
  readonly barrierTick = 0n
  readonly queuedBytes = 0
  readonly vchannels = NO_VCHANNELS
  readonly lsnCount: number
  readonly #body: Buffer | null

  private constructor(kind: FrameKind, body: Buffer | null, lsnCount: number) {
    this.kind = kind
    this.#body = body
    this.lsnCount = lsnCount
  }

  static durableMarker(): ControlFrame {
    return new ControlFrame(FrameKind.durableMarker, null, 0)
  }

  static gap(gap: Gap): ControlFrame {
    return new ControlFrame(FrameKind.gap, encodeGap(gap), gap.count)
  }

  get bodyBytes(): number {
    return this.#body === null ? 0 : GAP_BODY_BYTES
  }

  isIntact(): boolean {
    return true
  }

  writeBody(target: Buffer, offset: number): bigint {
    if (this.#body === null) return 0n
    this.#body.copy(target, offset)
    return hash64(this.#body)
  }

  settle(): void {}

  fail(): void {}
}

/** A stored time tick: it takes a tick and no LSN, and stands in the order of the calls. */
export class TickFrame implements PendingFrame {
  readonly kind = FrameKind.timeTick
  readonly recordCount = 0
  readonly nodeSection = null
  readonly admit = null
  readonly barrierTick = 0n
  readonly queuedBytes = FRAME_HEADER_BYTES
  readonly vchannels = NO_VCHANNELS
  readonly lsnCount = 0
  readonly bodyBytes = 0
  readonly #resolve: (timeTick: bigint) => void
  readonly #reject: (error: TidelogError) => void

  constructor(resolve: (timeTick: bigint) => void, reject: (error: TidelogError) => void) {
    this.#resolve = resolve
    this.#reject = reject
  }

  isIntact(): boolean {
    return true
  }

  writeBody(): bigint {
    return 0n
  }

  settle(_baseLsn: number, baseTimeTick: bigint): void {
    this.#resolve(baseTimeTick)
  }

  fail(error: TidelogError): void {
    this.#reject(error)
  }
}

function planIsIntact({ payloads, payloadLengths }: BodyPlan): boolean {
  for (let index = 0; index < payloads.length; index++) {
    if ((payloads[index]?.length ?? 0) !== payloadLengths[index]) return false
  }
  return true
}

function rangeOf(baseLsn: number, baseTimeTick: bigint, count: number): AppendResult {
  return {
    firstLsn: baseLsn,
    lastLsn: baseLsn + count - 1,
    firstTimeTick: baseTimeTick,
    lastTimeTick: baseTimeTick + BigInt(count - 1),
  }
}
