/**
 * The descriptor of a data directory, `tidelog.json`: what was fixed when the directory was created. docs/FORMAT.md
 * section 11 is byte exact.
 *
 *     {
 *       "format": "tidelog-data",
 *       "version": 1,
 *       "pchannels": 4,
 *       "durability": "disk",
 *       "createdMs": 1700000000000,
 *       "checksum": "<16 hex digits: XXH64 of every byte before the comma above this line>"
 *     }
 *
 * Descriptors of before the checksum have the first five keys and no others. So a checksum whose name was damaged is
 * not taken for one of those.
 */
import { hash64, loadChecksum } from '../../native-free-storage/index.ts'
import { TidelogError } from '../errors.ts'

export const DESCRIPTOR_FILE = 'tidelog.json'
export const DESCRIPTOR_BYTES_MAX = 4096
const FORMAT = 'tidelog-data'
const VERSION = 1
const OLD_KEYS = ['format', 'version', 'pchannels', 'durability', 'createdMs']
const TAIL = /,\n {2}"checksum": "([0-9a-f]{16})"\n\}\n$/

export interface DataDirectoryDescriptor {
  pchannels: number
  durability: 'disk' | 'os'
  createdMs: number
}

/** The bytes of the file. */
export async function encodeDescriptor(descriptor: DataDirectoryDescriptor): Promise<Buffer> {
  await loadChecksum()
  const { pchannels, durability, createdMs } = descriptor
  const text = JSON.stringify({ format: FORMAT, version: VERSION, pchannels, durability, createdMs }, null, 2)
  const head = text.slice(0, -'\n}'.length)
  return Buffer.from(`${head},\n  "checksum": "${checksumOf(Buffer.from(head))}"\n}\n`)
}

/**
 * What the bytes of the file at `path` say.
 *
 * @throws TidelogError DATA_DIRECTORY_INVALID (damaged, or none of ours), FORMAT_UNKNOWN (of a later version).
 */
export async function decodeDescriptor(bytes: Buffer, path: string): Promise<DataDirectoryDescriptor> {
  await loadChecksum()
  const text = bytes.toString('latin1')
  const tail = TAIL.exec(text)
  if (tail !== null && checksumOf(bytes.subarray(0, tail.index)) !== tail[1]) {
    throw invalid(`${path} is damaged: its checksum does not fit`)
  }
  let value: unknown
  try {
    value = JSON.parse(bytes.toString('utf8'))
  } catch (cause) {
    throw invalid(`${path} is no JSON`, cause)
  }
  const fields = (value ?? {}) as Record<string, unknown>
  const { format, version, pchannels, durability, createdMs } = fields
  if (format !== FORMAT || typeof version !== 'number') throw invalid(`${path} is none of Tidelog's`)
  if (version > VERSION) {
    throw new TidelogError(
      'FORMAT_UNKNOWN',
      `${path} is of version ${version}; this program knows ${VERSION}. Use a newer one. Nothing was changed.`,
      { file: DESCRIPTOR_FILE },
    )
  }
  if (tail === null && Object.keys(fields).some((key) => !OLD_KEYS.includes(key))) {
    throw invalid(`${path} is damaged: it does not end with its checksum`)
  }
  const valid =
    Number.isInteger(pchannels) &&
    (pchannels as number) >= 1 &&
    (durability === 'disk' || durability === 'os') &&
    typeof createdMs === 'number'
  if (!valid) throw invalid(`${path} lacks what it has to say, or says what cannot be`)
  return { pchannels: pchannels as number, durability, createdMs }
}

function checksumOf(bytes: Uint8Array): string {
  return hash64(bytes).toString(16).padStart(16, '0')
}

function invalid(what: string, cause?: unknown): TidelogError<'DATA_DIRECTORY_INVALID'> {
  return new TidelogError('DATA_DIRECTORY_INVALID', `${what}. Nothing was changed.`, { file: DESCRIPTOR_FILE, cause })
}
