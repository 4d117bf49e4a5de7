/**
 * The versions and feature bits that stand, in the same order, in segment headers and manifests.
 *
 * | offset | size | field |
 * |---|---|---|
 * | 0 | 4 | format version |
 * | 4 | 4 | smallest reader version |
 * | 8 | 4 | compatible feature bits |
 * | 12 | 4 | read-only compatible feature bits |
 * | 16 | 4 | incompatible feature bits |
 * | 20 | 4 | checksum suite |
 */
import { unknownFormat } from './format-error.ts'

export const FORMAT_VERSION = 1
const CHECKSUM_SUITE_XXH64 = 1

/** Incompatible feature bits of a manifest. 1: origins stand behind the retired segments (the log is a copy). */
export const FEATURE_ORIGINS = 1

const READER_VERSION = 4
const COMPATIBLE = 8
const READ_ONLY = 12
const INCOMPATIBLE = 16
const CHECKSUM_SUITE = 20

export interface FormatFeatures {
  formatVersion: number
  readerVersion: number
  compatibleFeatures: number
  /** Bits of which none is known to version 1: a file with one of them is read and never written. */
  readOnlyFeatures: number
}

export function writeFormatFeatures(target: Buffer, offset: number, incompatible = 0): void {
  target.writeUInt32LE(FORMAT_VERSION, offset)
  target.writeUInt32LE(FORMAT_VERSION, offset + READER_VERSION)
  target.writeUInt32LE(0, offset + COMPATIBLE)
  target.writeUInt32LE(0, offset + READ_ONLY)
  target.writeUInt32LE(incompatible, offset + INCOMPATIBLE)
  target.writeUInt32LE(CHECKSUM_SUITE_XXH64, offset + CHECKSUM_SUITE)
}

/** Whether an incompatible feature bit is set; what `readFormatFeatures` has let pass. */
export function hasFeature(source: Buffer, offset: number, bit: number): boolean {
  return (source.readUInt32LE(offset + INCOMPATIBLE) & bit) !== 0
}

/** `known`: incompatible bits that the caller knows. Throws FORMAT_UNKNOWN. The hash over these bytes has been verified. */
export function readFormatFeatures(source: Buffer, offset: number, what: string, known = 0): FormatFeatures {
  const formatVersion = source.readUInt32LE(offset)
  const readerVersion = source.readUInt32LE(offset + READER_VERSION)
  const incompatible = source.readUInt32LE(offset + INCOMPATIBLE)
  const suite = source.readUInt32LE(offset + CHECKSUM_SUITE)
  if (readerVersion > FORMAT_VERSION) {
    const versions = `format version ${formatVersion}, to be read by format version ${readerVersion} or later`
    throw unknownFormat(`the ${what} has ${versions}; this is ${FORMAT_VERSION}`, offset)
  }
  const unknown = (incompatible & ~known) >>> 0
  if (unknown !== 0) {
    throw unknownFormat(`the ${what} has unknown incompatible features 0x${unknown.toString(16)}`, offset)
  }
  if (suite !== CHECKSUM_SUITE_XXH64) throw unknownFormat(`the ${what} has unknown checksum suite ${suite}`, offset)
  return {
    formatVersion,
    readerVersion,
    compatibleFeatures: source.readUInt32LE(offset + COMPATIBLE),
    readOnlyFeatures: source.readUInt32LE(offset + READ_ONLY),
  }
}
