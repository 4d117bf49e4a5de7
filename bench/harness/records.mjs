/** Records to append: made before the measurement, with random payloads, and used again and again. */
import { randomFillSync } from 'node:crypto'

/** @param {number} count @param {number} payloadBytes @param {(index: number) => string} vchannelOf */
export function makeRecords(count, payloadBytes, vchannelOf = () => 'bench') {
  const slab = randomFillSync(Buffer.allocUnsafeSlow(count * payloadBytes))
  return Array.from({ length: count }, (_, index) => ({
    vchannel: vchannelOf(index),
    payload: slab.subarray(index * payloadBytes, (index + 1) * payloadBytes),
  }))
}

/** Calls of `append` with one record each, round and round. @param {any} log @param {readonly object[]} records */
export function singleAppends(log, records) {
  const calls = records.map((record) => [record])
  let next = 0
  return () => {
    if (next === calls.length) next = 0
    return log.append(calls[next++])
  }
}

/** Calls of `append` with `batchRecords` each. @param {any} log @param {readonly object[]} records @param {number} batchRecords */
export function batchAppends(log, records, batchRecords) {
  const batches = []
  for (let at = 0; at + batchRecords <= records.length; at += batchRecords) {
    batches.push(records.slice(at, at + batchRecords))
  }
  let next = 0
  return () => {
    if (next === batches.length) next = 0
    return log.append(batches[next++])
  }
}
