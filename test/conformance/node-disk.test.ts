import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { nodeDisk } from '../../native-free-storage/disk/node-disk.ts'
import { diskConformance } from './disk.ts'

diskConformance('node:fs', () => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'tidelog-disk-'))
  return { disk: nodeDisk(), directory, dispose: () => fs.rmSync(directory, { recursive: true }) }
})
