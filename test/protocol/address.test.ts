import { describe, expect, it } from 'vitest'
import { formatAddress, parseAddress } from '../../src/protocol/address.ts'

describe('addresses', () => {
  it('are parsed and printed', () => {
    for (const address of [
      'tcp://127.0.0.1:7420',
      'tcp://[::1]:1',
      'tcp://localhost:65535',
      'unix:/run/t.sock',
      'unix:./t',
    ]) {
      expect(formatAddress(parseAddress(address))).toBe(address)
    }
    expect(parseAddress('tcp://localhost')).toEqual({ kind: 'tcp', host: 'localhost', port: 7420 })
    expect(parseAddress('unix:///run/t.sock')).toEqual({ kind: 'unix', path: '/run/t.sock' })
    for (const address of [
      '',
      'localhost:1',
      'http://a:1',
      'tcp://',
      'tcp://a:0',
      'tcp://a:65536',
      'tcp://a b:1',
      'unix:',
    ]) {
      expect(() => parseAddress(address)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
    }
  })
})
