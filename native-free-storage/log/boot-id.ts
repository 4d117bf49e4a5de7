import type { Environment } from '../environment.ts'

/** The boot id as the files keep it, 16 bytes; zero where the machine does not tell one. */
export function machineBootId(environment: Environment): Buffer {
  const digits = environment.processes.self().bootId.replaceAll('-', '')
  const bytes = Buffer.alloc(16)
  if (/^[0-9a-f]{32}$/i.test(digits)) bytes.write(digits, 'hex')
  return bytes
}
