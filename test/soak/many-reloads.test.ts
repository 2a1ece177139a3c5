import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { collectGarbage, residentMb } from '../support/memory.js';
import { pidsWith, type TestPm2 } from '../support/pm2.js';
import { freePorts } from '../support/ports.js';
import { inARow, QUICK, withBusyCores } from '../support/under-load.js';
import { eventually } from '../support/wait.js';

const ROUNDS = 50;
/** The rounds that are compared: early, but with everything loaded; and the last ones. */
const EARLY = [10, 15] as const;
const LATE = [45, 50] as const;
/** How much more the manager may have at the end. */
const GROWTH = 1.15;

/** What must not grow. */
interface Measures {
  /** In the run directory. */
  files: number;
  processes: number;
  managerFds: number;
  /** Once its garbage is collected. */
  managerMb: number;
  /** pm2's own; it is only shown. */
  daemonMb: number;
}

describe('reloads, one after the other, under load', () => {
  it(`${ROUNDS} of them lose nothing, and nothing grows`, async (t) => {
    const [inspector] = await freePorts(1);
    const seen: Measures[] = [];
    const isCompared = (round: number): boolean =>
      [EARLY, LATE].some(([first, last]) => round >= first && round <= last);
    await inARow(t, 'reload', {
      settings: QUICK,
      rounds: ROUNDS,
      env: { NODE_OPTIONS: `--inspect-port=${inspector}` },
      afterEach: async (pm2, round) => {
        if (isCompared(round)) seen[round] = await measure(pm2);
      },
    });
    const [early, late] = [EARLY, LATE].map(([first, last]) => {
      const found = medians(seen.slice(first, last + 1));
      t.diagnostic(`rounds ${first} to ${last}: ${JSON.stringify(found)}`);
      return found;
    });
    assert.ok(early && late);
    assert.equal(late.files, early.files);
    assert.ok(late.managerFds <= early.managerFds * GROWTH, 'the files that the manager has open');
    assert.ok(late.managerMb <= early.managerMb * GROWTH, 'the memory of the manager');
  });

  it("ten of them with Envoy's own drain time lose nothing", (t) =>
    inARow(t, 'reload', { rounds: 10 }));

  it('ten restarts while every core is busy lose nothing', (t) =>
    withBusyCores(() => inARow(t, 'restart', { rounds: 10 })));
});

async function measure(pm2: TestPm2): Promise<Measures> {
  // The old runner ends a moment after its Envoy.
  await eventually('one generation', () => pm2.generations().length === 1);
  const processes = await eventually('pm2, manager, runner and Envoy to be all there is', () => {
    const { length } = pidsWith(pm2.folder);
    return length === 4 && length;
  });
  const manager = await pm2.pidOf('envoy-manager');
  const managerFds = readdirSync(`/proc/${manager}/fd`).length;
  await collectGarbage(manager, () => pm2.log('envoy-manager'));
  const run = join(pm2.folder, 'run');
  return {
    files: readdirSync(run, { recursive: true }).length,
    processes,
    managerFds,
    managerMb: residentMb(manager),
    daemonMb: residentMb(pm2.daemonPid()),
  };
}

function medians(rounds: readonly Measures[]): Measures {
  const median = (of: (measures: Measures) => number): number => {
    const sorted = rounds.map(of).sort((a, b) => a - b);
    return Math.round(sorted[Math.floor(sorted.length / 2)] ?? Number.NaN);
  };
  return {
    files: median(({ files }) => files),
    processes: median(({ processes }) => processes),
    managerFds: median(({ managerFds }) => managerFds),
    managerMb: median(({ managerMb }) => managerMb),
    daemonMb: median(({ daemonMb }) => daemonMb),
  };
}
