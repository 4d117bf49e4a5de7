/** The number of plain frames in PRODUCE; those of transactions and of producers with an identity have others. */
export const PLAIN_PRODUCER = 1
