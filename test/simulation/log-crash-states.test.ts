/** The engine on the simulated disk: power is lost before each disk operation of fixed workloads. Synced writes. */
import { describe } from 'vitest'
import { budget } from '../budget.ts'
import { losesPower } from './crash-suite.ts'
import { ways } from './log-session.ts'

describe('a log after power was lost', () => {
  const synced = ways.filter(({ mode, durability }) => mode === 'dsync' && durability === 'disk')
  losesPower(synced, budget({ small: 80, ci: 10_000, soak: 500_000 }))
})
