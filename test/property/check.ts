import fc from 'fast-check';

/** On a slow machine a property ends here, with as many runs as it has come to. */
const LIMIT_MS = 4_000;
/** A run that takes longer hangs. */
const RUN_LIMIT_MS = 10_000;

/**
 * Checks a property `runs` times. A failure names its seed and path: `PROPERTY_SEED` and
 * `PROPERTY_PATH` repeat it, `PROPERTY_RUNS` looks further (CONTRIBUTING.md).
 */
export function holds(property: fc.IRawProperty<unknown, false>, runs?: number): void;
export function holds(property: fc.IRawProperty<unknown, true>, runs?: number): Promise<void>;
export function holds(property: fc.IRawProperty<unknown>, runs = 300): Promise<void> | void {
  const { PROPERTY_SEED: seed, PROPERTY_PATH: path, PROPERTY_RUNS: more } = process.env;
  return fc.assert(more === undefined ? limited(property) : property, {
    numRuns: Number(more ?? runs),
    timeout: RUN_LIMIT_MS,
    ...(seed === undefined ? {} : { seed: Number(seed) }),
    ...(path === undefined ? {} : { path }),
  });
}

/** Not by fast-check's own limit: that leaves a run in the middle, and what it has patched. */
function limited<T extends fc.IRawProperty<unknown>>(property: T): T {
  const endMs = performance.now() + LIMIT_MS;
  return Object.create(property, {
    run: {
      value: (input: unknown) => (performance.now() < endMs ? property.run(input) : null),
    },
  });
}
