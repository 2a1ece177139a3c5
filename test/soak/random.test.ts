import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { runAtRandom } from '../support/random-host.js';

/** `RANDOM_SEED` repeats a run, and `RANDOM_COUNT` makes it longer. */
const { RANDOM_SEED: seed, RANDOM_COUNT: count } = process.env;

describe('operations at random, under load', () => {
  it('break no rule: never ready while refused, nothing lost, and what is drained stays so', async (t) => {
    const run = await runAtRandom(Number(seed ?? Date.now() % 1_000_000), Number(count ?? 100));
    t.diagnostic(
      `RANDOM_SEED=${run.seed}: ${run.operations.join('; ')}; ${run.requests} requests, ${run.unaccepted} reset unaccepted`,
    );
    // About one in ten thousand at a close, more where the CPU is saturated.
    assert.ok(run.unaccepted <= Math.max(1, run.operations.length / 4), `${run.unaccepted} resets`);
    assert.deepEqual(
      run.wrongs,
      [],
      `RANDOM_SEED=${run.seed} RANDOM_COUNT=${run.operations.length}`,
    );
  });
});
