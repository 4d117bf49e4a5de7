import { SimDisk } from '../simulation/sim-disk.ts'
import { diskConformance } from './disk.ts'

for (const names of ['strict', 'ext4'] as const) {
  diskConformance(`simulated, ${names}`, () => {
    const disk = new SimDisk({ seed: 1, names })
    disk.prepareDirectory('/data/log')
    return { disk, directory: '/data/log', dispose: () => disk.clock.stop() }
  })
}
