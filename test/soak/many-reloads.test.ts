import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { pidsWith, type TestPm2 } from '../support/pm2.js';
import { inARow, QUICK, withBusyCores } from '../support/under-load.js';
import { eventually } from '../support/wait.js';

const ROUNDS = 50;
/** The rounds that are compared: early, but with everything loaded; and the last ones. */
const EARLY = [10, 16] as const;
const LATE = [ROUNDS - 6, ROUNDS] as const;
/** How much more the manager may have at the end. */
const GROWTH = 1.15;

/** What must not grow. */
interface Measures {
  /** In the run directory. */
  files: number;
  processes: number;
  managerFds: number;
  managerMb: number;
  /** pm2's own; it is only shown. */
  daemonMb: number;
}

describe('reloads, one after the other, under load', () => {
  it(`${ROUNDS} of them lose nothing, and nothing grows`, async (t) => {
    const seen: Measures[] = [];
    const afterEach = async (pm2: TestPm2) => seen.push(await measure(pm2));
    await inARow(t, 'reload', { settings: QUICK, rounds: ROUNDS, afterEach });
    const early = medians(seen.slice(...EARLY));
    const late = medians(seen.slice(...LATE));
    t.diagnostic(`rounds ${EARLY[0]} to ${EARLY[1] - 1}: ${JSON.stringify(early)}`);
    t.diagnostic(`rounds ${LATE[0]} to ${LATE[1] - 1}: ${JSON.stringify(late)}`);
    assert.equal(late.files, early.files);
    assert.equal(late.processes, early.processes);
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
  await eventually('four processes: pm2, manager, runner and Envoy', () => {
    return pidsWith(pm2.folder).length === 4;
  }).catch(() => undefined);
  const manager = await pm2.pidOf('envoy-manager');
  const run = join(pm2.folder, 'run');
  return {
    files: readdirSync(run, { recursive: true }).length,
    processes: pidsWith(pm2.folder).length,
    managerFds: readdirSync(`/proc/${manager}/fd`).length,
    managerMb: residentMb(manager),
    daemonMb: residentMb(pm2.daemonPid()),
  };
}

function residentMb(pid: number): number {
  const kb = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return Number(kb) / 1_024;
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
