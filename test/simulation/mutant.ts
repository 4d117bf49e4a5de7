/** What an engine that is broken on purpose is made of. */
import type { Hunt } from './hunts.ts'

export interface Edit {
  /** Path below native-free-storage/. */
  file: string
  /** Stands in the file exactly once. */
  replace: string
  by: string
}

export interface Mutant {
  /** What is wrong with it, in words. */
  says: string
  edits: readonly Edit[]
  hunt: Hunt
  /** States within which it has to be caught. */
  within: number
  /** The broken promise by which it is caught: anything else is an accident. */
  shows: RegExp
}
