// Stands in the bundles for axios's adapter that uses fetch: Node has another one.
export function getFetch() {
  throw new Error('this part of a library is left out of the bundle');
}
