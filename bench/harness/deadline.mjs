// Every wait of the harness has an end.

/**
 * The promise, or an error that says what was waited for.
 * @template T
 * @param {Promise<T>} promise
 * @param {number} limitMs
 * @param {string} what
 * @returns {Promise<T>}
 */
export async function within(promise, limitMs, what) {
  /** @type {NodeJS.Timeout | undefined} */
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} took longer than ${limitMs} ms`)), limitMs)
  })
  try {
    return await Promise.race([promise, /** @type {Promise<never>} */ (late)])
  } finally {
    clearTimeout(timer)
  }
}

/** @param {number} delayMs @returns {Promise<void>} */
export function pause(delayMs) {
  return new Promise((resolve) => setTimeout(resolve, delayMs))
}
