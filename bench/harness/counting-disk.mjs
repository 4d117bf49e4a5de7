/** The disk port, with what is read through it counted by file. */

/** @param {any} disk */
export function countingDisk(disk) {
  /** @type {Map<string, number>} */
  let bytesOf = new Map()
  let reads = 0
  const count = (path, bytes) => {
    reads++
    bytesOf.set(path, (bytesOf.get(path) ?? 0) + bytes)
  }
  const wrapped = Object.create(disk, {
    open: {
      value: async (path, access, sync) => {
        const file = await disk.open(path, access, sync)
        return Object.assign(Object.create(file), {
          read: async (target, offset, length, position) => {
            const bytes = await file.read(target, offset, length, position)
            count(path, bytes)
            return bytes
          },
          write: (bytes, position) => file.write(bytes, position),
          sync: () => file.sync(),
          truncate: (length) => file.truncate(length),
          size: () => file.size(),
          close: () => file.close(),
          path: file.path,
        })
      },
    },
  })
  // Methods of a class with private fields have to be called on the object itself.
  for (const name of methodsOf(disk)) {
    if (name !== 'open') Object.defineProperty(wrapped, name, { value: (...given) => disk[name](...given) })
  }
  return {
    disk: wrapped,
    reads: () => reads,
    /** Of the files whose paths are wanted. @param {(path: string) => boolean} isWanted */
    bytes(isWanted) {
      let sum = 0
      for (const [path, bytes] of bytesOf) if (isWanted(path)) sum += bytes
      return sum
    },
    reset() {
      bytesOf = new Map()
      reads = 0
    },
  }
}

function methodsOf(object) {
  return Object.getOwnPropertyNames(Object.getPrototypeOf(object)).filter(
    (name) => name !== 'constructor' && typeof object[name] === 'function',
  )
}
