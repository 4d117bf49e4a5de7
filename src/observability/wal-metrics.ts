/** Metrics of what stands above the logs: transactions, producers, keys, exclusive messages, throttling, snapshots. */
import { Counter, Gauge, type Registry } from 'prom-client'
import type { GroupStatus } from '../streaming-node/node-service.ts'

/** Cumulative and present figures of one WAL, read when metrics are asked for. */
export interface WalFigures {
  transactions: { open: number; begun: number; committed: number; rolledBack: number; expired: number }
  producers: number
  keys: number
  exclusiveWaiting: number
  exclusiveWaits: number
  admission: { delayed: number; refused: number }
  snapshots: { taken: number; failed: number }
}

export interface WalSources {
  groups(): readonly GroupStatus[]
  /** Of a pchannel's WAL; undefined where there is none. */
  walFigures(pchannel: number): WalFigures | undefined
}

const throttleStates = ['ok', 'slow', 'refusing'] as const

export function registerWalMetrics(registry: Registry, sources: WalSources): void {
  const each = (told: (name: string, statistics: WalFigures) => void) => {
    for (const { name, group } of sources.groups()) {
      const statistics = sources.walFigures(group)
      if (statistics !== undefined) told(name, statistics)
    }
  }
  const gauge = (name: string, help: string, read: (statistics: WalFigures) => number) =>
    new Gauge({
      name,
      help,
      labelNames: ['pchannel'],
      registers: [registry],
      collect() {
        each((pchannel, statistics) => this.set({ pchannel }, read(statistics)))
      },
    })
  const counter = (name: string, help: string, read: (statistics: WalFigures) => number) =>
    new Counter({
      name,
      help,
      labelNames: ['pchannel'],
      registers: [registry],
      collect() {
        this.reset()
        each((pchannel, statistics) => this.inc({ pchannel }, read(statistics)))
      },
    })
  gauge('tidelog_transactions_open', 'Transactions that are open.', (all) => all.transactions.open)
  counter('tidelog_transactions_begun_total', 'Transactions that began.', (all) => all.transactions.begun)
  counter('tidelog_transactions_committed_total', 'Transactions that were committed.', (all) => {
    return all.transactions.committed
  })
  counter(
    'tidelog_transactions_rolled_back_total',
    'Transactions that ended without a commit, expired ones among them.',
    (all) => all.transactions.rolledBack,
  )
  counter(
    'tidelog_transactions_expired_total',
    'Transactions that were rolled back because nothing came for their keepalive, or at the end of their life.',
    (all) => all.transactions.expired,
  )
  gauge('tidelog_producers', 'Producers with an identity that the log knows.', (all) => all.producers)
  gauge('tidelog_idempotency_keys', 'Idempotency keys that are known.', (all) => all.keys)
  gauge('tidelog_exclusive_waiting', 'Appends that wait for an exclusive message, or are one that waits.', (all) => {
    return all.exclusiveWaiting
  })
  counter('tidelog_exclusive_waits_total', 'Appends that had to wait for an exclusive message.', (all) => {
    return all.exclusiveWaits
  })
  counter('tidelog_throttle_delayed_total', 'Appends that were held back for a rate or for memory.', (all) => {
    return all.admission.delayed
  })
  counter('tidelog_throttle_refused_total', 'Appends that were refused for a rate or for memory.', (all) => {
    return all.admission.refused
  })
  new Gauge({
    name: 'tidelog_throttle_state',
    help: '1 for what the pchannel does with appends: ok, slow (they are held back), refusing.',
    labelNames: ['pchannel', 'state'],
    registers: [registry],
    collect() {
      for (const { name, throttle } of sources.groups()) {
        for (const state of throttleStates) this.set({ pchannel: name, state }, state === throttle ? 1 : 0)
      }
    },
  })
  counter('tidelog_snapshots_total', 'Snapshots of the state that were written.', (all) => all.snapshots.taken)
  counter('tidelog_snapshot_failures_total', 'Snapshots of the state that could not be written.', (all) => {
    return all.snapshots.failed
  })
}
