/** `did you mean "a" or "b"?`, or nothing when no name is near. */
export function didYouMean(near: readonly string[]): string {
  if (near.length === 0) return ''
  const quoted = near.map((name) => JSON.stringify(name))
  const last = quoted.pop()
  return `did you mean ${quoted.length === 0 ? last : `${quoted.join(', ')} or ${last}`}?`
}
