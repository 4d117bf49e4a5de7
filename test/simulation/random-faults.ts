/**
 * A mix of faults, drawn from a seed: operations of the disk that fail, stall, fall short or lie, each once, wherever they
 * stand. The disk is well again after `heal`.
 */
import type { Random } from './random.ts'
import type { Fault, Operation, SimDisk } from './sim-disk.ts'

type FaultKind = 'sync fails' | 'EIO' | 'short write' | 'short read' | 'stall' | 'room' | 'late EIO'

export interface PlannedFault {
  kind: FaultKind
  fault: Fault
  matches(operation: Operation): boolean
  /** So many operations that match pass unharmed. */
  left: number
  fired: Operation | undefined
}

const kinds: readonly FaultKind[] = [
  'sync fails',
  'EIO',
  'EIO',
  'late EIO',
  'short write',
  'short read',
  'stall',
  'room',
]
const failing = [
  'open',
  'create',
  'link',
  'rename',
  'unlink',
  'list',
  'makeDirectory',
  'syncDirectory',
  'exists',
  'read',
  'write',
  'sync',
  'truncate',
  'size',
  'close',
] as const
const stalling = ['write', 'sync', 'link', 'rename', 'open', 'create', 'syncDirectory', 'read', 'unlink'] as const

const isOfLog = ({ path }: Operation): boolean => path !== '/data'

export function drawFault(random: Random): PlannedFault {
  const kind = random.pick(kinds)
  const planned = { kind, left: random.pick([0, 2, 6, 20, 60]) + random.below(8), fired: undefined }
  switch (kind) {
    case 'sync fails': {
      const syncFails = random.pick(['marked-clean', 'reverted', 'read-only'] as const)
      const matches = (what: Operation) => what.kind === 'sync' || (what.kind === 'write' && what.dsync)
      return { ...planned, fault: { syncFails }, matches }
    }
    case 'EIO':
    case 'late EIO': {
      const failed = random.pick(failing)
      const fault = { fail: 'EIO', applied: kind === 'late EIO' && failed !== 'read' && failed !== 'exists' }
      return { ...planned, fault, matches: (what) => what.kind === failed && isOfLog(what) }
    }
    case 'short write': {
      const short = random.pick([0, 1, 511, 512, random.below(5_000)])
      const fault = random.chance(0.3) ? { short, fail: 'ENOSPC' } : { short }
      return { ...planned, fault, matches: (what) => what.kind === 'write' && (what.length ?? 0) > short }
    }
    case 'short read': {
      const short = random.pick([1, 100, 512, random.below(5_000)])
      const fault = random.chance(0.2) ? { short, fail: 'EIO' } : { short }
      return { ...planned, fault, matches: (what) => what.kind === 'read' && (what.length ?? 0) > short }
    }
    case 'stall': {
      const stalled = random.pick(stalling)
      const fault = { stall: random.pick(['landed', 'late'] as const) }
      return { ...planned, fault, matches: (what) => what.kind === stalled && isOfLog(what) }
    }
    default:
      // Found by the operation that needs the room.
      return {
        ...planned,
        fault: { fail: 'ENOSPC' },
        matches: ({ kind: what }) => what === 'write' || what === 'create',
      }
  }
}

/** The faults of one machine. */
export class FaultPlan {
  readonly planned: PlannedFault[]
  readonly #disk: SimDisk
  readonly #random: Random
  readonly #heal: () => void
  #healed = false

  constructor(disk: SimDisk, planned: PlannedFault[], random: Random, onFire: (planned: PlannedFault) => void) {
    this.planned = planned
    this.#disk = disk
    this.#random = random
    this.#heal = disk.inject((operation) => {
      if (this.#healed) return undefined
      for (const one of planned) {
        if (one.fired !== undefined || !one.matches(operation) || one.left-- > 0) continue
        one.fired = operation
        onFire(one)
        if (one.kind === 'stall') this.#releaseLater()
        if (one.kind === 'room') disk.setFreeBytes(this.#random.pick([0, 300, 5_000, 70_000]))
        return one.fault
      }
      return undefined
    })
  }

  /** Some fault may have an effect that goes on, or is still to come. */
  get isActive(): boolean {
    return !this.#healed
  }

  heal(): void {
    this.#healed = true
    this.#heal()
    for (const held of [...this.#disk.stalled]) held.release()
    this.#disk.remount()
    this.#disk.setCapacity(Number.POSITIVE_INFINITY)
  }

  #releaseLater(): void {
    const failWith = this.#random.chance(0.3) ? 'EIO' : undefined
    this.#disk.clock.after(this.#random.pick([5, 300, 2_500, 20_000]), () => {
      for (const held of [...this.#disk.stalled]) held.release(failWith)
    })
  }
}
