import { expect, it } from 'vitest'
import { openLog } from '../../../native-free-storage/log/open-log.ts'
import { describe } from '../../../native-free-storage/maintenance/describe.ts'
import { quarantineOf } from '../../../native-free-storage/maintenance/quarantine.ts'
import { SimDisk } from '../../simulation/sim-disk.ts'
import { simEnvironment } from '../../simulation/sim-environment.ts'

it('says how much lies in quarantine, in folders of it too, and nothing where there is none', async () => {
  const disk = new SimDisk()
  disk.prepareDirectory('/log')
  const environment = simEnvironment(disk)
  const put = async (path: string, bytes: number): Promise<void> => {
    const file = await disk.create(path)
    await file.write(new Uint8Array(bytes), 0)
    await file.close()
  }
  expect(await quarantineOf(environment, '/log')).toEqual({ files: 0, bytes: 0 })
  await put('/log/strange', 1000)
  const writeWay = { mode: 'dsync', depth: 1, reason: 'a simulation' } as const
  await (await openLog('/log', { environment, writeWay })).close()
  expect(await quarantineOf(environment, '/log')).toEqual({ files: 1, bytes: 1000 })
  await disk.makeDirectory('/log/quarantine/repair-1')
  await put('/log/quarantine/repair-1/a.seg', 23)
  expect(await quarantineOf(environment, '/log')).toEqual({ files: 2, bytes: 1023 })
  expect((await describe(environment, '/log')).quarantinedBytes).toBe(1023)
})
