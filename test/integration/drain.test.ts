import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { holdIdle, holdTcp } from '../support/clients.js';
import { drainOf } from '../support/drain.js';
import { type TestEnvoy, withEnvoy } from '../support/envoy.js';
import { eventually, letPass } from '../support/wait.js';

const HIDE_LISTENERS = { exclusion_list: { patterns: [{ prefix: 'listener.' }] } };
const HIDE_BOTH = { exclusion_list: { patterns: [{ prefix: 'listener.' }, { prefix: 'http.' }] } };

describe('a drain of a real Envoy', () => {
  it('counts min-open-connections as drained', () =>
    withEnvoy({}, async (envoy) => {
      const held = [await holdTcp(envoy.ports.tcp), await holdTcp(envoy.ports.tcp)];
      const drainer = drainOf(envoy, { config: { minOpenConnections: 1 } });
      const result = drainer.drain();
      await isWaiting(drainer);
      held[0]?.close();
      assert.deepEqual(pick(await result), {
        outcome: 'drained',
        connectionsAtStart: 2,
        connectionsLeft: 1,
      });
      held[1]?.close();
    }));

  it('is not held by ignored listeners', () =>
    withEnvoy({}, async (envoy) => {
      const held = await holdTcp(envoy.ports.tcp);
      const ignoreListeners = [`127.0.0.1_${envoy.ports.tcp}`];
      const result = await drainOf(envoy, { config: { ignoreListeners } }).drain();
      assert.deepEqual(pick(result), {
        outcome: 'drained',
        connectionsAtStart: 0,
        connectionsLeft: 0,
      });
      held.close();
    }));

  it('falls back to the sockets in /proc where a stats_matcher hides the listeners, and says so once', () =>
    withEnvoy({ bootstrap: { stats_config: { stats_matcher: HIDE_LISTENERS } } }, async (envoy) => {
      const idle = await holdIdle(envoy.ports.http);
      const lines: string[] = [];
      const drainer = drainOf(envoy, { says: (line) => lines.push(line) });
      const result = drainer.drain();
      await isWaiting(drainer);
      await stillWaits(result);
      idle.close();
      assert.deepEqual(pick(await result), {
        outcome: 'drained',
        connectionsAtStart: 1,
        connectionsLeft: 0,
      });
      assert.equal(lines.filter((line) => line.includes('in /proc')).length, 1);
    }));

  it('falls back to /proc where both are hidden', () =>
    withEnvoy({ bootstrap: { stats_config: { stats_matcher: HIDE_BOTH } } }, async (envoy) => {
      const held = await holdTcp(envoy.ports.tcp);
      const lines: string[] = [];
      const drainer = drainOf(envoy, { says: (line) => lines.push(line) });
      const result = drainer.drain();
      await isWaiting(drainer);
      await stillWaits(result);
      held.close();
      assert.deepEqual(pick(await result), {
        outcome: 'drained',
        connectionsAtStart: 1,
        connectionsLeft: 0,
      });
      assert.equal(lines.filter((line) => line.includes('in /proc')).length, 1);
    }));

  it('never says drained where nothing can be counted', () =>
    withEnvoy({ bootstrap: { stats_config: { stats_matcher: HIDE_BOTH } } }, async (envoy) => {
      const drainer = drainOf(envoy, { isOurs: false, config: { drainTimeoutMs: 1_500 } });
      assert.deepEqual(pick(await drainer.drain()), {
        outcome: 'admin-unreachable',
        connectionsAtStart: null,
        connectionsLeft: null,
      });
    }));

  it('asks Envoy a bounded number of times', () =>
    withEnvoy({}, async (envoy) => {
      const before = await adminRequests(envoy);
      const held = await holdTcp(envoy.ports.tcp);
      const drainer = drainOf(envoy, { config: { drainTimeoutMs: 2_000 } });
      assert.notEqual((await drainer.drain()).outcome, 'drained');
      held.close();
      const asked = (await adminRequests(envoy)) - before;
      assert.ok(asked <= 30, `${asked} admin requests in a drain of 2 s at 100 ms`);
    }));
});

async function isWaiting(drainer: ReturnType<typeof drainOf>): Promise<void> {
  await eventually('the drain to wait', () => drainer.current()?.phase === 'wait');
}

async function stillWaits(result: Promise<unknown>): Promise<void> {
  assert.equal(
    await Promise.race([result.then(() => 'ended'), letPass(500).then(() => 'waits')]),
    'waits',
  );
}

function pick(result: Awaited<ReturnType<ReturnType<typeof drainOf>['drain']>>) {
  const { outcome, connectionsAtStart, connectionsLeft } = result;
  return { outcome, connectionsAtStart, connectionsLeft };
}

async function adminRequests({ admin }: TestEnvoy): Promise<number> {
  const { stats } = await admin.stats({
    type: 'Counters',
    filter: '^http\\.admin\\.downstream_rq_total$',
  });
  return stats[0]?.value ?? 0;
}
