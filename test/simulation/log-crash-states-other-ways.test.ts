/** As log-crash-states.test.ts: writes and then a sync, and the level of durability that syncs nothing. */
import { describe } from 'vitest'
import { budget } from '../budget.ts'
import { losesPower } from './crash-suite.ts'
import { ways } from './log-session.ts'

describe('a log after power was lost', () => {
  const others = ways.filter(({ mode, durability }) => mode !== 'dsync' || durability !== 'disk')
  losesPower(others, budget({ small: 80, ci: 10_000, soak: 500_000 }))
})
