/**
 * One process of a simulated machine: the operations that it has under way, and the descriptors that it holds. Each
 * operation takes two steps of the machine; faults meet it at the first. When the process dies nothing of it settles.
 */
import { DiskError } from '../../native-free-storage/disk/disk.ts'
import { Random } from './random.ts'
import type { PendingWrite, SimFile } from './sim-file.ts'
import { defaultLatencyMs, type Fault, type Finish, type Machine, type Operation, type Stalled } from './sim-machine.ts'
import type { NameChange } from './sim-names.ts'

export class SimProcess {
  readonly pid: number
  readonly startTime: string
  readonly #machine: Machine
  #dead = false
  /** Effects in the page cache whose calls have not returned. */
  readonly #inFlight = new Map<Operation, { land(): void; cut(random: Random): void }>()
  /** Descriptors that the process holds; its death closes them. */
  readonly openFiles = new Map<object, SimFile>()

  constructor(machine: Machine, pid: number | undefined) {
    this.#machine = machine
    this.pid = pid ?? ++machine.pids
    this.startTime = String(++machine.starts)
    machine.processes.set(this.pid, this)
  }

  /** False after the process or the machine went down. */
  get alive(): boolean {
    return !this.#dead && !this.#machine.down
  }

  /** Ends it. Of the writes it had in flight any part may have reached the page cache. */
  die(seed: number | string): void {
    if (this.#dead) return
    this.#dead = true
    const machine = this.#machine
    const random = new Random(`${seed}/${machine.steps}`)
    for (const effect of [...this.#inFlight.values()].reverse()) effect.cut(random)
    this.#inFlight.clear()
    for (const file of this.openFiles.values()) {
      file.openers--
      machine.forgetIfUnused(file)
    }
    this.openFiles.clear()
    for (const [path, pid] of machine.kernelLocks) if (pid === this.pid) machine.kernelLocks.delete(path)
  }

  /** False when it is not taken: the process may have died in it. */
  #step(): boolean {
    return !this.#dead && this.#machine.step() && !this.#dead
  }

  /** `begin` is the first step, what it returns the second. `faulty`: how this kind of operation takes a fault. */
  run<T>(what: Operation, begin: () => Finish<T>, faulty?: (fault: Fault) => Finish<T> | undefined): Promise<T> {
    const machine = this.#machine
    what.pid = this.pid
    what.step = machine.steps
    return new Promise<T>((resolve, reject) => {
      if (!this.#step()) return
      const fault = machine.fault(what)
      machine.log(what, 'begins', fault)

      const beginAtFault = (failWith: string | undefined): Finish<T> => {
        if (failWith !== undefined) throw new DiskError(failWith, what.kind, what.path)
        if (fault === undefined) return begin()
        const code = 'fail' in fault && !('short' in fault) ? fault.fail : undefined
        if (code !== undefined && !('applied' in fault && fault.applied)) {
          throw new DiskError(code, what.kind, what.path)
        }
        const finish = faulty?.(fault) ?? begin()
        if (code === undefined) return finish
        return () => {
          finish()
          throw new DiskError(code, what.kind, what.path)
        }
      }
      const end = (finish: Finish<T>) => {
        if (!this.#step()) return
        try {
          const value = finish()
          machine.log(what, 'done')
          resolve(value)
        } catch (error) {
          machine.log(what, error instanceof DiskError ? error.code : String(error))
          reject(error)
        }
      }
      const start = (failWith?: string) => {
        let finish: Finish<T>
        try {
          finish = beginAtFault(failWith)
        } catch (error) {
          finish = () => {
            throw error
          }
        }
        if (fault !== undefined && 'stall' in fault && fault.stall === 'landed') {
          this.#hold(what, (code) =>
            end(() => {
              if (code === undefined) return finish()
              this.land(what)
              throw new DiskError(code, what.kind, what.path)
            }),
          )
          return
        }
        const latency = (machine.options.latencyMs ?? defaultLatencyMs)(what, machine.random)
        machine.clock.after(latency, () => end(finish))
      }
      if (fault !== undefined && 'stall' in fault && fault.stall === 'late') {
        this.#hold(what, (code) => {
          if (this.alive) start(code)
        })
      } else start()
    })
  }

  #hold(what: Operation, release: (failWith?: string) => void): void {
    const { stalled } = this.#machine
    const entry: Stalled = {
      operation: what,
      release(failWith) {
        const index = stalled.indexOf(entry)
        if (index < 0) return
        stalled.splice(index, 1)
        release(failWith)
      },
    }
    stalled.push(entry)
  }

  /** Notes a write whose call has not returned. */
  trackWrite(what: Operation, file: SimFile, write: PendingWrite): void {
    this.#inFlight.set(what, {
      land: () => {
        write.inFlight = false
        write.before = undefined
        this.#inFlight.delete(what)
      },
      cut: (random) => {
        const { length } = write.sectors
        const reached = random.pick([0, length, random.below(length + 1)])
        const lengthBefore = file.length
        file.cutInFlight(write, reached)
        this.#machine.usedBytes += file.length - lengthBefore
      },
    })
  }

  /** Notes a change of names whose call has not returned; gives what lands it. */
  trackChange(what: Operation, change: NameChange): Finish<void> {
    const land = () => {
      change.inFlight = false
      this.#inFlight.delete(what)
    }
    // A process that dies during the call has made the change: the system carries it out as a whole.
    this.#inFlight.set(what, { land, cut: land })
    return land
  }

  /** The call of a write or of a change of names returns. */
  land(what: Operation): void {
    this.#inFlight.get(what)?.land()
  }
}
