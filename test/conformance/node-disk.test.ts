import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { nodeDisk } from '../../native-free-storage/disk/node-disk.ts'
import { diskConformance } from './disk.ts'

for (const reopenFiles of [true, false]) {
  diskConformance(`node:fs, ${reopenFiles ? 'a descriptor for each write' : 'one descriptor'}`, () => {
    const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'tidelog-disk-'))
    return { disk: nodeDisk({ reopenFiles }), directory, dispose: () => fs.rmSync(directory, { recursive: true }) }
  })
}
