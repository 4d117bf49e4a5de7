import { type Disk, DiskError, type DiskFile } from '../../native-free-storage/index.ts'
import { Gate } from './gate.ts'

/** A disk whose writes to log segments can be held back and made to fail. Everything else goes through. */
export class FaultyDisk {
  readonly disk: Disk
  readonly #gate = new Gate()
  #failures = 0
  #syncFailures = 0

  constructor(inner: Disk) {
    const wrap = (file: DiskFile) => this.#wrap(file)
    this.disk = new Proxy(inner, {
      get(target, name: keyof Disk) {
        if (name === 'open') return async (...args: Parameters<Disk['open']>) => wrap(await target.open(...args))
        if (name === 'create') return async (...args: Parameters<Disk['create']>) => wrap(await target.create(...args))
        const value = target[name]
        return typeof value === 'function' ? value.bind(target) : value
      },
    })
  }

  /** Writes wait until the function that this gives is called. */
  hold(): () => void {
    return this.#gate.close()
  }

  /** The next write fails with EIO. */
  failNext(): void {
    this.#failures++
  }

  /** The next sync fails with EIO: of a log that is written with write and fdatasync. */
  failNextSync(): void {
    this.#syncFailures++
  }

  #wrap(file: DiskFile): DiskFile {
    if (!/\.(seg|prep|new)$/.test(file.path)) return file
    return new Proxy(file, {
      get: (target, name: keyof DiskFile) => {
        if (name === 'write') {
          return async (...args: Parameters<DiskFile['write']>) => {
            if (this.#failures > 0) {
              this.#failures--
              throw new DiskError('EIO', 'write', target.path)
            }
            await this.#gate.passage
            await target.write(...args)
          }
        }
        if (name === 'sync' && this.#syncFailures > 0) {
          return async () => {
            this.#syncFailures--
            throw new DiskError('EIO', 'sync', target.path)
          }
        }
        const value = target[name]
        return typeof value === 'function' ? value.bind(target) : value
      },
    })
  }
}
