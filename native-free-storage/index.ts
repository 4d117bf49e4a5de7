/** The border of the engine: `tidelog/storage`. Everything in `src/` reaches the engine through this file. */
export type { BodyHead } from './format/body-head.ts'
export {
  type AppendOutcome,
  type ErrorDetails,
  type StorageErrorCode,
  storageErrorCodes,
  TidelogError,
} from './errors.ts'
