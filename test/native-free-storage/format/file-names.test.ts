import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  indexFileName,
  manifestFileName,
  parseManifestFileName,
  parseSegmentFileName,
  segmentFileName,
} from '../../../native-free-storage/format/file-names.ts'
import { safe, segmentId } from './arbitraries.ts'

describe('names of files', () => {
  it('come back from what they were made of', () => {
    fc.assert(
      fc.property(safe, segmentId, (lsn, id) => {
        expect(parseSegmentFileName(segmentFileName(lsn, id))).toEqual({ baseLsn: lsn, id })
        expect(parseManifestFileName(manifestFileName(lsn))).toBe(lsn)
      }),
    )
  })

  it('are as the format says', () => {
    expect(segmentFileName(42, '00000000000000ff')).toBe('00000000000000000042-00000000000000ff.seg')
    expect(indexFileName(42, '00000000000000ff')).toBe('00000000000000000042-00000000000000ff.idx')
    expect(manifestFileName(7)).toBe('MANIFEST-00000000000000000007')
  })

  it.each([
    '00000000000000000042-00000000000000FF.seg',
    '0000000000000000042-00000000000000ff.seg',
    '00000000000000000042-00000000000000ff.idx',
    '00000000000000000042-0000000000000000.seg',
    '99999999999999999999-00000000000000ff.seg',
    ' 00000000000000000042-00000000000000ff.seg',
    '00000000000000000042-00000000000000ff.seg\n',
    'MANIFEST-7',
    'MANIFEST-99999999999999999999',
    'MANIFEST-00000000000000000007.tmp',
    '',
  ])('does not take %j for one of them', (name) => {
    expect(parseSegmentFileName(name)).toBeNull()
    expect(parseManifestFileName(name)).toBeNull()
  })

  it('refuses what no name can hold', () => {
    expect(() => segmentFileName(-1, '00000000000000ff')).toThrow(/base LSN/)
    expect(() => segmentFileName(1, 'ff')).toThrow(/segment id/)
    expect(() => manifestFileName(1.5)).toThrow(/generation/)
  })
})
