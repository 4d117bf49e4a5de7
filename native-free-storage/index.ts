/** The border of the engine: `tidelog/storage`. Everything in `src/` reaches the engine through this file. */
export {
  type AppendOutcome,
  type ErrorDetails,
  type StorageErrorCode,
  storageErrorCodes,
  TidelogError,
} from './errors.ts'
export { type BodyHead, openBodyHead, verifySection } from './format/body-head.ts'
export { type BodyLimits, type BodyPlan, bodyLimits, planBody, type RecordInput } from './format/body-plan.ts'
export { writeBody } from './format/body-writer.ts'
export { hash64, loadChecksum } from './format/checksum.ts'
export { FormatError } from './format/format-error.ts'
export { decodeNodeSection, type NodeSection } from './format/node-section.ts'
export { decodeProperties } from './format/properties.ts'
export { vchannelNameFault } from './format/vchannel-names.ts'
