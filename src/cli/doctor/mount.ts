/** The mount that holds a path, and the block device beneath it, as /proc and /sys tell. */
import type { SystemFacts } from './system-facts.ts'

export interface Mount {
  point: string
  type: string
  source: string
  /** Of the mount and of the file system. */
  options: readonly string[]
  /** `254:0`; major 0 where no block device is beneath. */
  device: string
}

/** Of an absolute path without symbolic links; null where it cannot be told. */
export async function mountOf(facts: SystemFacts, path: string): Promise<Mount | null> {
  const text = await facts.readText('/proc/self/mountinfo')
  if (text === null) return null
  let found: Mount | null = null
  for (const line of text.split('\n')) {
    const mount = parseMount(line)
    if (mount === null) continue
    const inside = mount.point === '/' || path === mount.point || path.startsWith(`${mount.point}/`)
    // Of several on one point the last one is on top.
    if (inside && (found === null || mount.point.length >= found.point.length)) found = mount
  }
  return found
}

/** `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue` (proc_pid_mountinfo(5)). */
function parseMount(line: string): Mount | null {
  const [left, right] = line.split(' - ')
  if (left === undefined || right === undefined) return null
  const [, , device, , point, options] = left.split(' ')
  const [type, source, superOptions] = right.split(' ')
  if (device === undefined || point === undefined || type === undefined) return null
  const all = `${options ?? ''},${superOptions ?? ''}`.split(',').filter((option) => option !== '')
  return { point: unescaped(point), type, source: unescaped(source ?? ''), options: [...new Set(all)], device }
}

/** Blanks and backslashes stand as three octal digits. */
function unescaped(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)))
}

export interface BlockDevice {
  /** `vda`, `nvme0n1p2`. */
  name: string
  model: string | null
  /** Null: not told. */
  rotational: boolean | null
  writeCache: 'write back' | 'write through' | null
  fua: boolean | null
}

/** Null: none, or /sys does not tell. */
export async function blockDeviceOf(facts: SystemFacts, { device }: Mount): Promise<BlockDevice | null> {
  const base = `/sys/dev/block/${device}`
  const uevent = await facts.readText(`${base}/uevent`)
  if (uevent === null) return null
  // What belongs to the disk stands one folder up for a partition.
  const read = async (name: string): Promise<string | null> =>
    ((await facts.readText(`${base}/${name}`)) ?? (await facts.readText(`${base}/../${name}`)))?.trim() ?? null
  const flag = (text: string | null): boolean | null => (text === '1' ? true : text === '0' ? false : null)
  const writeCache = await read('queue/write_cache')
  return {
    name: /^DEVNAME=(.+)$/m.exec(uevent)?.[1] ?? device,
    model: await read('device/model'),
    rotational: flag(await read('queue/rotational')),
    writeCache: writeCache === 'write back' || writeCache === 'write through' ? writeCache : null,
    fua: flag(await read('queue/fua')),
  }
}

/** What says that this is a virtual machine or a container; empty when nothing does. */
export async function virtualHints(facts: SystemFacts, device: BlockDevice | null): Promise<string[]> {
  const hints: string[] = []
  for (const name of ['sys_vendor', 'product_name']) {
    const text = (await facts.readText(`/sys/class/dmi/id/${name}`))?.trim()
    if (
      text !== undefined &&
      /qemu|kvm|vmware|virtualbox|innotek|xen|amazon|google|microsoft|bochs|virtual/i.test(text)
    ) {
      hints.push(text)
    }
  }
  const hypervisor = (await facts.readText('/sys/hypervisor/type'))?.trim()
  if (hypervisor !== undefined) hints.push(`hypervisor ${hypervisor}`)
  if (/^flags\s*:.*\bhypervisor\b/m.test((await facts.readText('/proc/cpuinfo')) ?? ''))
    hints.push('cpu flag hypervisor')
  if (device !== null && /^(xv|v)d[a-z]/.test(device.name)) hints.push(`disk ${device.name}`)
  const group = (await facts.readText('/proc/1/cgroup')) ?? ''
  if (/docker|kubepods|containerd|lxc/.test(group) || (await facts.readText('/.dockerenv')) !== null) {
    hints.push('container')
  }
  return [...new Set(hints)]
}
