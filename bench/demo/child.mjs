// A process of the demo that reports by messages.
import { fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { keepTrack } from '../harness/daemon-process.mjs'
import { within } from '../harness/deadline.mjs'

/**
 * @param {string} file beside this one
 * @param {string[]} args
 * @param {(message: any) => void} [onMessage]
 */
export function startChild(file, args, onMessage = () => {}) {
  const child = keepTrack(fork(fileURLToPath(new URL(file, import.meta.url)), args))
  /** @type {unknown} */
  let last
  child.on('message', (message) => {
    last = message
    onMessage(message)
  })
  const ended = new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (status, signal) => {
      if (status === 0) resolve(last)
      else reject(new Error(`${file} ended with status ${status}, signal ${signal}`))
    })
  })
  /** @type {Promise<never>} */
  const failed = ended.then(() => new Promise(() => {}))
  // Looked at when their turn comes.
  ended.catch(() => {})
  failed.catch(() => {})
  return {
    /** @param {object} message */
    send: (message) => child.send(message),
    kill: () => child.kill('SIGKILL'),
    ended,
    /** Settles with its last message when it has ended well. */
    /** @param {number} limitMs @returns {Promise<any>} */
    result: (limitMs) => within(ended, limitMs, file),
    /** Rejects as soon as it has ended badly, and else never settles. */
    failed,
  }
}
