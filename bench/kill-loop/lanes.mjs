// The vchannels of the load, and how each is written.

/**
 * - `single`: `client.append`, many calls at a time, which the client gathers into frames
 * - `pipelined`: `producer.submit`
 * - `batch`: `client.appendBatch`, each a frame: all of it or nothing
 * @typedef {'single' | 'pipelined' | 'batch'} LaneKind
 * @type {readonly { vchannel: string, kind: LaneKind }[]}
 */
export const lanes = [
  { vchannel: 'single-0', kind: 'single' },
  { vchannel: 'single-1', kind: 'single' },
  { vchannel: 'pipelined-0', kind: 'pipelined' },
  { vchannel: 'pipelined-1', kind: 'pipelined' },
  { vchannel: 'batch-0', kind: 'batch' },
  { vchannel: 'batch-1', kind: 'batch' },
]

export const vchannels = lanes.map(({ vchannel }) => vchannel)

/** @type {ReadonlyMap<string, number>} */
export const laneOf = new Map(vchannels.map((vchannel, lane) => [vchannel, lane]))
