import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { createAdminClient } from '../../src/admin/client.js';
import { holdIdle } from '../support/clients.js';
import { statusOf, type TestPm2, withPm2 } from '../support/pm2.js';
import { eventually, letPass } from '../support/wait.js';

const WINDOW_MS = 6_000;

describe('manager and runner', () => {
  it('hardly wake up while nothing happens, nor ask Envoy', () =>
    withPm2({}, async (pm2) => {
      const manager = await pm2.pidOf('envoy-manager');
      const { runner } = servingOf(pm2);
      // What V8 tidies up after a start wakes it some times; a timer would do so in every while.
      await eventually('the runner to rest', () => restsFor(runner.pid, WINDOW_MS), 60_000);
      const before = { manager: wakes(manager), asked: await adminRequests(pm2) };
      const windows = await letWindowPass();
      const woke = wakes(manager) - before.manager;
      const asked = (await adminRequests(pm2)) - before.asked - 1;
      assert.ok(woke < 60 * windows, `the manager woke up ${woke} times in ${windows} windows`);
      assert.ok(asked <= 2 * windows, `Envoy was asked ${asked} times in ${windows} windows`);
    }));

  it('ask Envoy ever more rarely while a connection holds a drain', () =>
    withPm2({}, async (pm2) => {
      const held = await holdIdle(pm2.ports.http);
      const drain = pm2.http('POST', '/shutdown');
      await eventually('the wait', async () => (await statusOf(pm2)).phase === 'wait');
      await letPass(4_000);
      const before = await adminRequests(pm2);
      const windows = await letWindowPass();
      const asked = (await adminRequests(pm2)) - before - 1;
      assert.ok(asked <= 8 * windows, `Envoy was asked ${asked} times in ${windows} windows`);
      held.close();
      assert.equal((await drain).status, 200);
    }));
});

/** Lets a window pass; a test that is late has waited for more than one. */
async function letWindowPass(): Promise<number> {
  const sinceMs = performance.now();
  await letPass(WINDOW_MS);
  return (performance.now() - sinceMs) / WINDOW_MS;
}

/** Whether a process's main thread sleeps for so long; a few wakes are the kernel's and V8's own. */
async function restsFor(pid: number, ms: number): Promise<boolean> {
  const before = wakes(pid);
  await letPass(ms);
  return wakes(pid) - before <= 3;
}

/** How often a process's main thread has gone to sleep. */
function wakes(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(/^voluntary_ctxt_switches:\s+(\d+)/m.exec(status)?.[1]);
}

/** Requests to Envoy's admin interface so far, this one included. */
async function adminRequests(pm2: TestPm2): Promise<number> {
  const admin = createAdminClient({ kind: 'unix', path: servingOf(pm2).adminSocket });
  const filter = '^http\\.admin\\.downstream_rq_total$';
  const { stats } = await admin.stats({ type: 'Counters', filter });
  admin.close();
  return stats[0]?.value ?? 0;
}

function servingOf(pm2: TestPm2) {
  const generation = pm2.generations().at(-1);
  assert.ok(generation, 'an Envoy runs');
  return generation;
}
