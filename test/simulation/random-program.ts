/**
 * A random program of a log's users on a disk that fails: everything is drawn from the seed, the way of writing, the
 * sizes, what is done, what goes wrong, and how it ends. The ledger knows what has to hold.
 */
import type { LogOptions } from '../../native-free-storage/index.ts'
import { TidelogError } from '../../native-free-storage/index.ts'
import type { FindingCode } from '../../native-free-storage/maintenance/findings.ts'
import { demandNoOrphans, demandSound, goOn, newDisk, readBack } from './crash-runner.ts'
import { demand, identified } from './log-ledger.ts'
import { Session, type Way } from './log-session.ts'
import { checkLookups } from './lookups.ts'
import { Random } from './random.ts'
import { drawFault, FaultPlan, type PlannedFault } from './random-faults.ts'
import { aloneInTheWorld } from './rivals.ts'
import { SimClock } from './sim-clock.ts'
import type { SimDisk } from './sim-disk.ts'

export interface ProgramCounts {
  operations: number
  openings: number
  faults: number
  powerLosses: number
  deaths: number
  rivals: number
  /** Segments that were compacted. */
  compacted: number
  acknowledged: number
  refused: number
}

/** A run of a program takes minutes of the simulated time at most. */
const simulatedMsMax = 4 * 3_600_000

export class RandomProgram {
  readonly counts: ProgramCounts = {
    operations: 0,
    openings: 0,
    faults: 0,
    powerLosses: 0,
    deaths: 0,
    rivals: 0,
    compacted: 0,
    acknowledged: 0,
    refused: 0,
  }
  /** What was done, in words, for whoever looks for a failure. */
  readonly story: string[] = []
  readonly seed: string
  readonly random: Random
  readonly way: Way
  readonly #options: LogOptions
  readonly #sizeMax: number
  readonly #faultsPerMachine: number
  readonly #withRivals: boolean
  /** Of the programs that store ticks and compact; null: this one does not. */
  readonly #compacts: Random | null
  session: Session
  #faults: FaultPlan
  #wroteShort = false
  /** Owners that were overtaken and go on. */
  #overtaken: Session[] = []
  /** Whatever is under way: it has to settle when the log is closed. */
  #loose: Promise<unknown>[] = []
  #readers: Promise<unknown>[] = []
  #failed = false
  #tellFailure!: (error: unknown) => void
  readonly #failure: Promise<never>

  constructor(seed: string, faults = true) {
    this.seed = seed
    const random = new Random(seed)
    this.random = random
    this.way = {
      mode: random.pick(['dsync', 'dsync', 'fdatasync'] as const),
      depth: random.pick([1, 2, 4, 4]),
      durability: random.chance(0.2) ? 'os' : 'disk',
    }
    const retention = random.chance(0.2) ? { bytes: random.pick([0, 20_000, 60_000]) } : undefined
    this.#options = {
      segmentBytes: random.pick([8_192, 16_384, 65_536, 65_536]),
      cacheBytes: random.pick([0, 16_384, 262_144]),
      queueBytes: random.pick([4_096, 32_768, 67_108_864]),
      whenFull: random.pick(['wait', 'wait', 'reject'] as const),
      writeDeadlineMs: random.pick([100, 1_000, 30_000]),
      ...(retention === undefined ? {} : { retention }),
    }
    this.#sizeMax = random.pick([60, 900, 6_000, 20_000])
    this.#faultsPerMachine = faults ? random.pick([0, 1, 1, 2, 3]) : 0
    this.#withRivals = faults && random.chance(0.15)
    // Of its own, so that a seed without it is the program that it was.
    const compacts = new Random(`${seed}/compacts`)
    this.#compacts = compacts.chance(0.3) ? compacts : null
    this.#failure = new Promise((_, reject) => {
      this.#tellFailure = reject
    })
    this.#failure.catch(() => {})
    const names = random.pick(['strict', 'ext4'] as const)
    const disk = newDisk({ names, seed }, { clock: this.#newClock(Date.UTC(2026, 0, 1)) })
    this.session = this.#newSession(disk)
    if (retention !== undefined) this.ledger.askedFirstLsn = Number.POSITIVE_INFINITY
    this.#faults = this.#plan(disk, this.#faultsPerMachine)
    const { mode, depth, durability } = this.way
    this.story.push(`${mode} ${depth} ${durability}, ${names} names, ${JSON.stringify(this.#options)}`)
  }

  get ledger() {
    return this.session.ledger
  }

  /** Does all of it; what does not hold is thrown. */
  async run(): Promise<void> {
    try {
      await Promise.race([this.#program(), this.#failure])
    } finally {
      this.session.disk.powerLoss()
    }
  }

  async #program(): Promise<void> {
    await this.#open()
    const operations = this.random.between(3, 11)
    for (let i = 0; i < operations; i++) await this.#operation()
    await this.#end()
  }

  // --- what is done ---------------------------------------------------------------------------------------------

  async #operation(): Promise<void> {
    const { random } = this
    this.counts.operations++
    if (this.session.log.status.state === 'failed' && random.chance(0.7)) return await this.#again()
    if (this.#compacts?.chance(0.4)) return await this.#compact(this.#compacts)
    const dice = random.below(100)
    if (dice < 18) return await this.#submit(random.chance(0.5) ? 1 : random.between(2, 6))
    if (dice < 36) return await this.#burst()
    if (dice < 44) return await this.#truncate()
    if (dice < 50) return this.#follow()
    if (dice < 58) return await this.#look()
    if (dice < 66) {
      const ms = random.pick([0.05, 1, 30, 130, 4_000])
      this.#tell(`sleeps ${ms} ms`)
      return await this.session.sleep(ms)
    }
    if (dice < 69) return this.session.disk.clock.stepWallClock(random.between(-5_000, 5_000))
    if (dice < 72 && this.#options.retention !== undefined) {
      this.#tell('applies retention')
      return await this.#tolerate(this.session.log.applyRetention())
    }
    if (dice < 77 && this.#withRivals) return await this.#rival()
    if (dice < 85 && this.#overtaken.length > 0) return this.#overtakenGoesOn()
    return await this.#again()
  }

  #size(): number {
    const { random } = this
    return random.chance(0.05) ? random.below(60_000) : random.below(this.#sizeMax)
  }

  async #submit(count: number): Promise<void> {
    const sizes = Array.from({ length: count }, () => this.#size())
    this.#tell(`appends ${sizes.join(', ')}`)
    await this.#appended(this.session.submit(...sizes))
    if (this.random.chance(0.5)) this.session.watermark()
  }

  /** Many callers at once, some while others are under way; not all are waited for. */
  async #burst(): Promise<void> {
    const { random, session } = this
    const count = random.between(2, 24)
    const pauseMs = random.pick([0, 0, 0.02, 0.1])
    this.#tell(`${count} at once, ${pauseMs} ms apart`)
    const appends: Promise<unknown>[] = []
    for (let i = 0; i < count; i++) {
      const sizes = random.chance(0.85) ? [this.#size()] : [this.#size(), this.#size()]
      const controller = random.chance(0.1) ? new AbortController() : undefined
      appends.push(this.#appended(session.submitWith({ signal: controller?.signal }, ...sizes)))
      if (controller !== undefined) session.disk.clock.after(random.fraction(), () => controller.abort())
      if (pauseMs > 0 && random.chance(0.6)) await session.sleep(pauseMs)
    }
    const all = Promise.all(appends)
    if (random.chance(0.6)) await all
    else this.#loose.push(all)
  }

  async #appended(append: Promise<TidelogError | null>): Promise<void> {
    try {
      const error = await append
      if (error === null) this.counts.acknowledged++
      else {
        demand(error instanceof TidelogError, () => `an append failed with ${error}`)
        this.counts.refused++
      }
    } catch (error) {
      this.#fail(error)
    }
  }

  async #truncate(): Promise<void> {
    const { session, random } = this
    const lsn = random.between(session.log.firstLsn, session.log.nextLsn)
    this.#tell(`truncates before ${lsn}`)
    const truncation = this.#tolerate(this.ledger.truncate(session.log, lsn))
    if (random.chance(0.6)) await truncation
    else this.#loose.push(truncation)
  }

  /** Stored ticks with records between them, or a compaction of what there is. */
  async #compact(random: Random): Promise<void> {
    const { session, ledger } = this
    if (random.chance(0.65)) {
      const count = random.between(3, 20)
      this.#tell(`stores ${count} ticks`)
      const ticks = Array.from({ length: count }, () => ledger.submitTick(session.log))
      const all = Promise.all([...ticks, this.#appended(session.submit(random.below(this.#sizeMax)))])
      const stored = all.then(
        () => {},
        (error: unknown) => this.#fail(error),
      )
      if (random.chance(0.8)) await stored
      else this.#loose.push(stored)
      return
    }
    this.#tell('compacts')
    const compacting = this.#tolerate(
      session.log.compact({ savedBytesMin: 1, savedShareMin: 0 }).then(({ compacted }) => {
        this.counts.compacted += compacted.length
      }),
    )
    if (random.chance(0.6)) await compacting
    else this.#loose.push(compacting)
  }

  /** A reader that stays to the end: what it is given stays, and comes without a hole. */
  #follow(): void {
    const { session } = this
    this.#tell('follows')
    const reads = async (): Promise<void> => {
      let last = -1
      try {
        for await (const frame of session.log.read({ follow: true, gaps: true, readAheadBytes: 65_536 })) {
          if (frame.gap !== null) last = Math.max(last, frame.gap.firstLsn + frame.gap.count - 1)
          for (const record of frame) {
            const found = identified(record)
            demand(last < 0 || found.lsn === last + 1, () => `a reader got LSN ${found.lsn} after ${last}`)
            last = found.lsn
            this.ledger.noteRead(found)
          }
        }
      } catch (error) {
        if (!(error instanceof TidelogError)) this.#fail(error)
      }
    }
    this.#readers.push(reads())
  }

  /** A full read and look-ups against it; a reader may meet the fault that is under way, and says so. */
  async #look(): Promise<void> {
    const { session, random } = this
    this.#tell('looks')
    if (this.#faults.isActive || this.#overtaken.length > 0) {
      await this.#tolerate(
        (async () => {
          for await (const frame of session.log.read({ readAheadBytes: 65_536 })) {
            for (const record of frame) this.ledger.noteRead(identified(record))
          }
        })(),
      )
      return
    }
    // What is compared must not move meanwhile.
    await Promise.all(this.#loose.splice(0))
    await session.log.applyRetention()
    const found = await this.ledger.check(session.log)
    await checkLookups(session.log, found, random, 2)
  }

  /** Another process takes the log over, and this one goes on with its files open. */
  async #rival(): Promise<void> {
    this.counts.rivals++
    this.#tell('is overtaken')
    this.#overtaken.push(this.session)
    this.session = this.#newSession(this.session.disk.nextProcess(), this.session)
    await this.#open()
  }

  #overtakenGoesOn(): void {
    const old = this.random.pick(this.#overtaken)
    this.#tell('the overtaken one appends')
    this.#loose.push(this.#appended(old.submit(this.#size())))
    if (this.random.chance(0.2)) this.#loose.push(this.#tolerate(old.log.close()))
  }

  // --- ends and beginnings --------------------------------------------------------------------------------------

  async #again(): Promise<void> {
    const how = this.random.below(3)
    if (how === 0) await this.#closes()
    else if (how === 1) this.#dies()
    else this.#losesPower()
    await this.#open()
  }

  /** Every promise settles and every reader ends, whether the close succeeds or not. */
  async #closes(): Promise<void> {
    this.#tell('closes')
    await this.#tolerate(this.session.close())
    // Of one that was overtaken they settle when it is closed itself.
    if (this.#overtaken.length === 0) await Promise.all([...this.#loose.splice(0), ...this.#readers.splice(0)])
  }

  #dies(): void {
    this.#tell('dies')
    this.counts.deaths++
    this.#loose = []
    this.#readers = []
    this.session.dies()
  }

  #losesPower(): void {
    this.#tell('power is lost')
    this.counts.powerLosses++
    this.#loose = []
    this.#readers = []
    this.#overtaken = []
    const { disk } = this.session
    const clock = this.#newClock(disk.clock.nowMs() + 5_000)
    const found = disk.reboot(this.counts.powerLosses, { clock })
    found.setCapacity(Number.POSITIVE_INFINITY)
    disk.clock.onEnd = undefined
    disk.powerLoss()
    if (this.way.durability === 'os') this.ledger.mayLoseBelow = Number.POSITIVE_INFINITY
    this.session = this.#newSession(found, this.session)
    this.#faults = this.#plan(found, this.random.below(this.#faultsPerMachine + 1))
  }

  /** A fault may stand in its way; when all is well it opens. */
  async #open(): Promise<void> {
    for (let attempt = 0; ; attempt++) {
      const isWell = !this.#faults.isActive || this.#faults.planned.length === 0
      try {
        this.#tell('opens')
        this.counts.openings++
        await this.session.open(this.#options)
        return
      } catch (error) {
        this.#demandKnown(error)
        const { code } = error as TidelogError
        // A process whose lock file could not be removed still holds it. One that was overtaken and does not know it yet
        // may publish a manifest in between.
        const isLocked = code === 'LOCKED' && attempt < 3
        const isFenced = code === 'FENCED' && this.#overtaken.length > 0 && attempt < 10
        demand(!isWell || isLocked || isFenced, () => `the disk is well, and an open gives ${error}`)
        this.#tell(`the open gives ${code}`)
        if (attempt > 0 || this.random.chance(0.5)) this.#heal()
        if (code === 'LOCKED' || this.random.chance(0.4)) this.#dies()
      }
    }
  }

  async #end(): Promise<void> {
    const { random } = this
    this.#heal()
    for (const old of this.#overtaken) old.disk.processCrash()
    const how = random.below(4)
    if (how === 0) this.#losesPower()
    else if (how === 1) this.#dies()
    else {
      await this.#closes()
      if (how === 2) this.#losesPower()
    }
    this.#heal()
    this.#overtaken = []
    const last = this.#newSession(this.session.disk.nextProcess(), this.session)
    this.session.disk.processCrash()
    this.session = last
    this.#tell('goes on')
    await goOn(last)
    const found = await readBack(last)
    const again = await readBack(last)
    demand(found.records.length === again.records.length && found.firstLsn === again.firstLsn, () => {
      return 'two clean openings differ'
    })
    demandNoOrphans(last.disk)
    // An index that a fault kept from being written is rebuilt when it is needed.
    const tolerated: FindingCode[] = this.counts.faults > 0 ? ['INDEX_MISSING'] : []
    // A part of a seal stays where its write has failed; nothing rests on it.
    if (this.#wroteShort) tolerated.push('SEAL_DAMAGED')
    await demandSound(last, 'at the end', tolerated)
  }

  #heal(): void {
    this.#faults.heal()
  }

  // --- setting --------------------------------------------------------------------------------------------------

  #newSession(disk: SimDisk, before?: Session): Session {
    const session = new Session(disk, this.way, this.seed, before?.ledger)
    if (this.#withRivals) session.wrap = aloneInTheWorld
    return session
  }

  #newClock(startMs: number): SimClock {
    const clock = new SimClock({ startMs })
    clock.untilMs = simulatedMsMax
    clock.onEnd = () => this.#fail(new Error('broken: something is waited for that never comes'))
    return clock
  }

  #plan(disk: SimDisk, count: number): FaultPlan {
    const planned: PlannedFault[] = Array.from({ length: count }, () => drawFault(this.random))
    return new FaultPlan(disk, planned, this.random.fork('faults'), ({ kind, fault, fired }) => {
      this.counts.faults++
      if ('short' in fault) this.#wroteShort = true
      this.#tell(`fault ${kind} ${JSON.stringify(fault)}: ${fired!.kind} ${fired!.path} at step ${fired!.step}`)
      // At level `os` a sync that fails may drop what was acknowledged; its LSNs are not given again.
      if (kind === 'sync fails' && this.way.durability === 'os') {
        this.ledger.mayLoseBelow = Number.POSITIVE_INFINITY
      }
    })
  }

  // --- what may fail ---------------------------------------------------------------------------------------------

  async #tolerate(step: Promise<unknown>): Promise<void> {
    try {
      await step
    } catch (error) {
      try {
        this.#demandKnown(error)
      } catch (unknown) {
        this.#fail(unknown)
      }
    }
  }

  #demandKnown(error: unknown): void {
    // A process that was taken for dead releases its lock at the moment at which it is taken from it.
    if (this.#withRivals && error instanceof Error && error.message.includes('a lock just taken names its taker'))
      return
    if (!(error instanceof TidelogError)) throw error
  }

  #fail(error: unknown): void {
    if (this.#failed) return
    this.#failed = true
    this.#tellFailure(error)
  }

  #tell(what: string): void {
    this.story.push(what)
  }
}
