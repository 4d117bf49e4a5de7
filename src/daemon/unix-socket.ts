/**
 * Listens on a Unix socket that only its owner may use, and takes the place of one that a dead daemon has left, never
 * of one that is alive.
 */
import { randomBytes } from 'node:crypto'
import { chmod, link, lstat, rename, unlink } from 'node:fs/promises'
import { connect, type Server } from 'node:net'
import { dirname, join } from 'node:path'
import { TidelogError } from '../errors.ts'

/** Of `sun_path` on Linux, without its last zero. */
const PATH_BYTES_MAX = 107
const CONNECT_TIMEOUT_MS = 2_000

/**
 * Binds `server` to `path` with mode 0600. It is bound under a name that nobody can guess, gets its mode, and only
 * then its name, so that at no moment others can connect. Gives the function that takes the name away again.
 *
 * @throws TidelogError ADDRESS_IN_USE (a live daemon has it, or something that is no socket), CONFIG_INVALID (the path),
 *   IO_FAILED.
 */
export async function listenOnUnixSocket(server: Server, path: string): Promise<() => Promise<void>> {
  const bound = besides(path)
  if (Math.max(Buffer.byteLength(path), Buffer.byteLength(bound)) > PATH_BYTES_MAX) {
    throw new TidelogError(
      'CONFIG_INVALID',
      `the socket path ${path} is longer than the ${PATH_BYTES_MAX} bytes the system takes`,
    )
  }
  await takeAwayStale(path)
  try {
    await listen(server, bound)
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException
    throw new TidelogError('IO_FAILED', `no socket can be made in ${dirname(path)} (${code})`, { file: path, cause })
  }
  try {
    await chmod(bound, 0o600)
    // Unlike a rename, it fails when another daemon was faster.
    await link(bound, path)
  } catch (cause) {
    await new Promise((resolve) => server.close(resolve))
    if ((cause as NodeJS.ErrnoException).code === 'EEXIST') throw inUse(path)
    throw new TidelogError('IO_FAILED', `the socket ${path} cannot be named`, { file: path, cause })
  }
  const { ino } = await lstat(path)
  await unlink(bound)
  return async () => {
    try {
      // Whoever runs now may have put its own there.
      if ((await lstat(path)).ino === ino) await unlink(path)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    }
  }
}

/** The name is moved away before it is removed, and looked at again: a rival's live socket is put back. */
async function takeAwayStale(path: string): Promise<void> {
  let isSocket: boolean
  try {
    isSocket = (await lstat(path)).isSocket()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
    throw new TidelogError('IO_FAILED', `the socket path ${path} cannot be looked at`, { file: path, cause: error })
  }
  if (!isSocket) {
    throw new TidelogError(
      'ADDRESS_IN_USE',
      `${path} exists and is no socket; it was left as it is. Choose another path.`,
      {
        file: path,
      },
    )
  }
  if (await answers(path)) throw inUse(path)
  const moved = besides(path)
  try {
    await rename(path, moved)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
    throw new TidelogError('IO_FAILED', `the stale socket ${path} cannot be removed`, { file: path, cause: error })
  }
  const alive = await answers(moved)
  if (alive) await link(moved, path).catch(() => {})
  await unlink(moved)
  if (alive) throw inUse(path)
}

/** Whether a live process listens at `path`. In doubt, it does. */
function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ path })
    const end = (alive: boolean) => {
      socket.destroy()
      resolve(alive)
    }
    socket.setTimeout(CONNECT_TIMEOUT_MS, () => end(true))
    socket.once('connect', () => end(true))
    socket.once('error', (error: NodeJS.ErrnoException) =>
      end(error.code !== 'ECONNREFUSED' && error.code !== 'ENOENT'),
    )
  })
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen({ path }, () => {
      server.removeListener('error', reject)
      resolve()
    })
  })
}

function besides(path: string): string {
  return join(dirname(path), `.${randomBytes(6).toString('hex')}`)
}

function inUse(path: string): TidelogError<'ADDRESS_IN_USE'> {
  return new TidelogError('ADDRESS_IN_USE', `another daemon listens on ${path}; stop it, or choose another path`, {
    file: path,
  })
}
