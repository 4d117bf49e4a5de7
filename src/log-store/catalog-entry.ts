/** How the catalog of the vchannels lies in its log: one record a vchannel, a line of JSON, so that `dump` shows it. */

/** Name of the catalog's log, and of the vchannel of its records. */
export const CATALOG_LOG = 'catalog'
export const CATALOG_VCHANNEL = 'vchannels'
/** Records in one frame of the catalog. */
export const FRAME_ENTRIES_MAX = 4096

/** The payload of one record. */
export function catalogPayload(entry: { name: string; pchannel: number; createdMs: number }): Buffer {
  const { name, pchannel, createdMs } = entry
  return Buffer.from(JSON.stringify({ name, pchannel, createdMs }))
}
