/**
 * The template of `consume --format`: kcat's percent verbs, with what they mean here, and a few of our own.
 *
 *   %s  payload, byte for byte               %S  its length in bytes, -1 where the payload is null
 *   %R  the same length, binary: signed 32 bits, big-endian
 *   %t  vchannel (kcat: topic)               %p  always 0: a vchannel has no partitions
 *   %o  LSN (kcat: offset)                   %T  wall time of the tick, milliseconds since 1970
 *   %k  the property `key`, empty if none    %K  its length in bytes, -1 if there is none
 *   %h  properties as name=value,name=value  %%  a percent sign
 *   %y  type (not in kcat)                   %c  time tick, decimal (not in kcat)
 *   \n \r \t \\ \0   and any byte as \xHH
 *
 * Nothing is added behind a record: a template that wants lines ends in \n, as in kcat.
 */

import type { EnvelopeRecord } from './record-envelope.ts'
import { usageError } from './usage-error.ts'
import { msOfTick } from './wall-time.ts'

type Piece = string | Uint8Array

/** What a template makes of a record: pieces to print one after the other. */
export type FormatTemplate = (record: EnvelopeRecord) => Piece[]

const verbs: Record<string, (record: EnvelopeRecord) => Piece> = {
  '%': () => '%',
  s: (record) => record.payload,
  S: (record) => String(payloadLength(record)),
  R: (record) => {
    const bytes = Buffer.alloc(4)
    bytes.writeInt32BE(payloadLength(record))
    return bytes
  },
  t: (record) => record.vchannel,
  p: () => '0',
  o: (record) => String(record.lsn),
  T: (record) => String(msOfTick(record.timeTick)),
  k: (record) => keyOf(record) ?? '',
  K: (record) => {
    const key = keyOf(record)
    return String(key === undefined ? -1 : Buffer.byteLength(key))
  },
  h: (record) =>
    Object.entries(record.properties)
      .map(([name, value]) => `${name}=${value}`)
      .join(','),
  y: (record) => String(record.type),
  c: (record) => String(record.timeTick),
}

const escapes: Record<string, string> = { n: '\n', r: '\r', t: '\t', '\\': '\\', '0': '\0' }

export const formatHelp = `Verbs of --format:
  %s payload     %S its length, -1 if null      %R the same, 32 bits big-endian
  %t vchannel    %o LSN                         %p always 0 (no partitions here)
  %T milliseconds since 1970                    %c time tick      %y type
  %k the property "key"  %K its length or -1    %h properties as name=value,...
  %% percent     \\n \\r \\t \\\\ \\0 and \\xHH: that byte`

/** Reads a template once. Throws USAGE for a verb or an escape that does not exist. */
export function parseFormatTemplate(template: string): FormatTemplate {
  const pieces: (Piece | ((record: EnvelopeRecord) => Piece))[] = []
  let literal = ''
  const flush = () => {
    if (literal !== '') pieces.push(literal)
    literal = ''
  }
  for (let at = 0; at < template.length; at++) {
    const character = template[at]!
    if (character === '%') {
      const name = template[++at]
      const verb = name !== undefined && Object.hasOwn(verbs, name) ? verbs[name] : undefined
      if (!verb) {
        throw usageError(
          `--format: ${name === undefined ? 'the % at the end has no verb' : `%${name} is no verb`}; ` +
            `there are ${Object.keys(verbs)
              .map((known) => `%${known}`)
              .join(' ')}`,
        )
      }
      flush()
      pieces.push(verb)
    } else if (character === '\\') {
      const name = template[++at]
      if (name === 'x') {
        const digits = /^[0-9A-Fa-f]{2}/.exec(template.slice(at + 1))?.[0]
        if (!digits) throw usageError('--format: \\x wants two hex digits, as in \\x1f')
        flush()
        pieces.push(Buffer.from(digits, 'hex'))
        at += 2
      } else if (name !== undefined && Object.hasOwn(escapes, name)) literal += escapes[name]
      else throw usageError(`--format: \\${name ?? ' at the end'} is no escape; there are \\n \\r \\t \\\\ \\0 \\xHH`)
    } else literal += character
  }
  flush()
  return (record) => pieces.map((piece) => (typeof piece === 'function' ? piece(record) : piece))
}

function payloadLength(record: EnvelopeRecord): number {
  return record.isNull ? -1 : record.payload.length
}

function keyOf(record: EnvelopeRecord): string | undefined {
  return Object.hasOwn(record.properties, 'key') ? record.properties.key : undefined
}
