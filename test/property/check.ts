import fc from 'fast-check';

/** On a slow machine a property ends here, with as many runs as it has come to. */
const LIMIT_MS = 4_000;

/**
 * Checks a property `runs` times. A failure names its seed and path: `PROPERTY_SEED` and
 * `PROPERTY_PATH` repeat it, `PROPERTY_RUNS` looks further (CONTRIBUTING.md).
 */
export function holds(property: fc.IRawProperty<unknown, false>, runs?: number): void;
export function holds(property: fc.IRawProperty<unknown, true>, runs?: number): Promise<void>;
export function holds(property: fc.IRawProperty<unknown>, runs = 300): Promise<void> | void {
  const { PROPERTY_SEED: seed, PROPERTY_PATH: path, PROPERTY_RUNS: more } = process.env;
  return fc.assert(property, {
    numRuns: Number(more ?? runs),
    ...(seed === undefined ? {} : { seed: Number(seed) }),
    ...(path === undefined ? {} : { path }),
    ...(more === undefined ? { interruptAfterTimeLimit: LIMIT_MS } : {}),
  });
}
