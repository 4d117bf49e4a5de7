/**
 * The machine's own limit: synchronous writes and syncs from one loop, without a format, a queue or a thread. Two ways:
 * `dsync` (O_DSYNC, one call) and `fdatasync` (two calls).
 */

import { randomFillSync } from 'node:crypto'
import fs from 'node:fs'
import { Samples } from './statistics.mjs'

const FILL_BYTES = 1024 * 1024
const { O_RDWR, O_CREAT, O_EXCL, O_DSYNC } = fs.constants

/** @typedef {'dsync' | 'fdatasync'} RawMode */
export const rawModes = /** @type {const} */ (['dsync', 'fdatasync'])

const zeros = Buffer.alloc(FILL_BYTES)
const sources = new Map()

/** Bytes to write: random, so that nothing on the way makes less of them. @param {number} bytes */
function source(bytes) {
  let found = sources.get(bytes)
  if (found === undefined) {
    found = randomFillSync(Buffer.allocUnsafeSlow(bytes))
    sources.clear()
    sources.set(bytes, found)
  }
  return found
}

/** Writes zeros to the whole length and syncs: later writes change no metadata. @param {string} path @param {number} bytes */
export function prepareFile(path, bytes) {
  const descriptor = fs.openSync(path, O_RDWR | O_CREAT | O_EXCL, 0o600)
  try {
    for (let at = 0; at < bytes; at += FILL_BYTES) {
      fs.writeSync(descriptor, zeros, 0, Math.min(FILL_BYTES, bytes - at), at)
    }
    fs.fdatasyncSync(descriptor)
  } finally {
    fs.closeSync(descriptor)
  }
}

/** A whole number of sectors, as the engine's flushes are. @param {number} bytes */
export function wholeSectors(bytes) {
  return Math.max(512, Math.ceil(bytes / 512) * 512)
}

/**
 * Writes `writeBytes` after `writeBytes` and syncs each, over the files in turn, each from its beginning to its end.
 * Ends after `totalBytes`, or after `forMs` (then the files are gone over again and again).
 *
 * @param {{ paths: string[], fileBytes: number, writeBytes: number, mode: RawMode, totalBytes?: number, forMs?: number }} options
 */
export function rawPrepared({ paths, fileBytes, writeBytes, mode, totalBytes = Infinity, forMs = Infinity }) {
  const bytes = source(writeBytes)
  const latencies = new Samples()
  const descriptors = paths.map((path) => openRaw(path, mode))
  const perFile = Math.floor(fileBytes / writeBytes)
  try {
    const began = performance.now()
    let now = began
    let written = 0
    for (let turn = 0; written < totalBytes && now - began < forMs; turn++) {
      const descriptor = descriptors[Math.floor(turn / perFile) % descriptors.length]
      writeOnce(descriptor, bytes, (turn % perFile) * writeBytes, mode)
      written += writeBytes
      const after = performance.now()
      latencies.add(after - now)
      now = after
    }
    return { bytes: written, ms: now - began, bytesPerSecond: (written / (now - began)) * 1000, latencies }
  } finally {
    for (const descriptor of descriptors) fs.closeSync(descriptor)
  }
}

/**
 * The same loop on files that it prepares itself: a file is filled with zeros and synced, then written from its
 * beginning to its end, then the next one; all of the time counts. Whole files beyond `keepBytes` are removed, the
 * oldest first.
 *
 * @param {{ directory: string, fileBytes: number, writeBytes: number, mode: RawMode, forMs: number, keepBytes: number }} options
 */
export function rawPreparing({ directory, fileBytes, writeBytes, mode, forMs, keepBytes }) {
  const bytes = source(writeBytes)
  const perFile = Math.floor(fileBytes / writeBytes)
  const paths = []
  const began = performance.now()
  let written = 0
  let preparingMs = 0
  for (let number = 0; performance.now() - began < forMs; number++) {
    const path = `${directory}/raw-${number}`
    const beganFile = performance.now()
    prepareFile(path, fileBytes)
    preparingMs += performance.now() - beganFile
    paths.push(path)
    const descriptor = openRaw(path, mode)
    for (let turn = 0; turn < perFile && performance.now() - began < forMs; turn++) {
      writeOnce(descriptor, bytes, turn * writeBytes, mode)
      written += writeBytes
    }
    fs.closeSync(descriptor)
    if (paths.length * fileBytes > keepBytes) fs.unlinkSync(paths.shift())
  }
  const ms = performance.now() - began
  for (const path of paths) fs.unlinkSync(path)
  return { bytes: written, ms, bytesPerSecond: (written / ms) * 1000, preparingMs }
}

/** @param {string} path @param {RawMode} mode */
function openRaw(path, mode) {
  return fs.openSync(path, mode === 'dsync' ? O_RDWR | O_DSYNC : O_RDWR)
}

/** @param {number} descriptor @param {Buffer} bytes @param {number} position @param {RawMode} mode */
function writeOnce(descriptor, bytes, position, mode) {
  const count = fs.writeSync(descriptor, bytes, 0, bytes.length, position)
  if (count !== bytes.length) throw new Error(`a raw write wrote ${count} of ${bytes.length} bytes`)
  if (mode === 'fdatasync') fs.fdatasyncSync(descriptor)
}
