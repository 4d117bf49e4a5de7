/**
 * How much a suite does: simulated crashes, random cases, rounds of SIGKILL.
 *
 * `TIDELOG_BUDGET` is `small` (the default: all of `npm test` in under three minutes), `ci` (the gate) or `soak` (hours,
 * by hand). `TIDELOG_RUNS` sets the number itself, to look for one failure: use it with a single suite.
 */
export interface Budget {
  small: number
  ci: number
  /** As many as `ci` where it is left out. */
  soak?: number
}

export type BudgetName = 'small' | 'ci' | 'soak'

export function budgetName(): BudgetName {
  const name = process.env.TIDELOG_BUDGET || 'small'
  if (name !== 'small' && name !== 'ci' && name !== 'soak') {
    throw new Error(`TIDELOG_BUDGET is "${name}"; it can be small, ci or soak`)
  }
  return name
}

/** The number of runs for this suite under the budget of this process. */
export function budget({ small, ci, soak = ci }: Budget): number {
  const override = process.env.TIDELOG_RUNS
  if (override) {
    const runs = Number(override)
    if (!Number.isSafeInteger(runs) || runs < 1) throw new Error(`TIDELOG_RUNS is "${override}"; it must be a count`)
    return runs
  }
  return { small, ci, soak }[budgetName()]
}

/** Rows of a table of cases: in `npm test` one of `every`, else all. For cases that cost a process each. */
export function thinned<T>(rows: readonly T[], every: number): T[] {
  return rows.filter((_, index) => budgetName() !== 'small' || index % every === 0)
}
