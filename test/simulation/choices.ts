/**
 * Who decides what a power loss leaves behind: a seed, a fixed answer, or each possibility in turn.
 */
import { Random } from './random.ts'

export interface Chooser {
  /** A number in [0, options). By convention 0 is "lost" and 1 is "kept". */
  choose(options: number, what: ChoiceKind): number
}

export type ChoiceKind = 'name' | 'write' | 'sector' | 'length'

/** All pending is lost. */
export const loseAll: Chooser = { choose: () => 0 }

/** All pending is kept. */
export const keepAll: Chooser = {
  choose: (options, what) => (what === 'length' ? options - 1 : Math.min(1, options - 1)),
}

/**
 * Random answers. Even coins would nearly always give a mixture; real crashes often keep or lose nearly all. So each
 * kind of choice gets a leaning for the whole crash.
 */
export function seededChoices(seed: number | string): Chooser {
  const random = new Random(seed)
  const leanings: Record<ChoiceKind, number> = {
    name: random.pick([0, 0.1, 0.5, 0.5, 0.9, 1]),
    write: random.pick([0, 0.1, 0.5, 0.5, 0.9, 1]),
    sector: random.pick([0.05, 0.5, 0.95]),
    length: random.pick([0, 0.5, 1]),
  }
  // A write that is torn or garbled, and a sector of a torn one that is garbled.
  const oddities = { write: random.pick([0, 0, 0.1, 0.5]), sector: random.pick([0, 0, 0.1, 0.5]), name: 0.3 }
  return {
    choose(options, what) {
      if (options <= 1) return 0
      if (what === 'length') return random.chance(leanings.length) ? options - 1 : random.below(options)
      if (options > 2 && random.chance(oddities[what])) return random.between(2, options - 1)
      return random.chance(leanings[what]) ? 1 : 0
    },
  }
}

/**
 * Runs `visit` once for each sequence of answers, in a fixed order, at most `limit` times. Each run must ask the
 * same questions after the same answers: what is asked must not go on by itself between two runs.
 * @returns how many runs there were, and whether all sequences were seen.
 */
export async function eachChoice(
  limit: number,
  visit: (chooser: Chooser) => void | Promise<void>,
): Promise<{ runs: number; complete: boolean }> {
  const walk = new AnswerWalk()
  for (let runs = 1; ; runs++) {
    await visit(walk.begin())
    if (!walk.advance()) return { runs, complete: true }
    if (runs >= limit) return { runs, complete: false }
  }
}

/** The same for a `visit` that is over when it returns, with nothing else happening between the runs. */
export function eachChoiceNow(limit: number, visit: (chooser: Chooser) => void): { runs: number; complete: boolean } {
  const walk = new AnswerWalk()
  for (let runs = 1; ; runs++) {
    visit(walk.begin())
    if (!walk.advance()) return { runs, complete: true }
    if (runs >= limit) return { runs, complete: false }
  }
}

/** Goes through all sequences of answers like a counter whose digits have the bases that the questions show. */
class AnswerWalk {
  readonly #tape: { answer: number; options: number }[] = []
  #position = 0

  begin(): Chooser {
    this.#position = 0
    return {
      choose: (options) => {
        if (options <= 1) return 0
        const known = this.#tape[this.#position]
        if (known === undefined) this.#tape.push({ answer: 0, options })
        else if (known.options !== options) throw new Error('the questions changed between runs')
        return this.#tape[this.#position++]!.answer
      },
    }
  }

  /** False: there is no further sequence. */
  advance(): boolean {
    const tape = this.#tape
    tape.length = this.#position
    while (tape.length > 0 && tape.at(-1)!.answer + 1 >= tape.at(-1)!.options) tape.pop()
    const last = tape.at(-1)
    if (last === undefined) return false
    last.answer++
    return true
  }
}
