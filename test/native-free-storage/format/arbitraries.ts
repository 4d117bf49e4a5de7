/** Values for the property tests of the codecs. */
import fc from 'fast-check'
import type { Context } from '../../../native-free-storage/format/contexts.ts'

export const u16 = fc.integer({ min: 0, max: 0xffff })
export const u32 = fc.oneof(fc.integer({ min: 0, max: 0xffff_ffff }), fc.constantFrom(0, 1, 0xffff_ffff))
export const u64 = fc.oneof(fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }), fc.constantFrom(0n, (1n << 64n) - 1n))
export const safe = fc.oneof(fc.maxSafeNat(), fc.constantFrom(0, 2 ** 32 - 1, 2 ** 32, Number.MAX_SAFE_INTEGER))
export const logId = fc.uint8Array({ minLength: 16, maxLength: 16 }).map((bytes) => Buffer.from(bytes).toString('hex'))
export const segmentId = fc
  .bigInt({ min: 1n, max: (1n << 64n) - 1n })
  .map((value) => value.toString(16).padStart(16, '0'))
export const bootId = fc.uint8Array({ minLength: 16, maxLength: 16 })

/** Text that UTF-8 can hold, now and then with U+FFFD, which is what wrong bytes turn into. */
export const text = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 20 }),
  fc.constantFrom('\ufffd', 'a\ufffdb', '\u{1f600}', '__proto__', 'constructor', '', 'x'.repeat(60), 'é'.repeat(60)),
)

export const vchannel = fc
  .oneof(
    fc.constantFrom('', 'orders', 'by-dev-rootcoord-dml_0_100v0', 'Ä', 'x'.repeat(255)),
    fc.string({ unit: 'binary' }),
  )
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what a name may not have
  .filter((name) => !/[\u0000-\u001f\u007f]/.test(name) && Buffer.byteLength(name) <= 255)

export const properties = fc.dictionary(text, text, { maxKeys: 4, noNullPrototype: true })

export const context: fc.Arbitrary<Context> = fc.record(
  {
    producer: fc.record({ id: u64, epoch: u32, firstSequence: safe }),
    transaction: u64,
    trace: fc.constantFrom('00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'),
  },
  { requiredKeys: [] },
)
