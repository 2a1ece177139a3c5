import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type Counters, createCounters } from '../../src/drain/count.js';
import type { HostDrain } from '../../src/drain/host-drain.js';
import type { Located } from '../../src/drain/locate.js';
import type { Generation } from '../../src/host/generations.js';
import { ownIdentity } from '../../src/host/process-identity.js';
import { createStatusReader } from '../../src/status/status.js';
import {
  createFakeClock,
  createFakeEnvoy,
  type FakeEnvoy,
  makeTempFolder,
  setOpen,
  targetOf,
  undecided,
} from './fakes.js';

/** A reader of a host on which these run; those that are not ready are starting. */
function readerOf(...envoys: { envoy: FakeEnvoy; ready: boolean }[]) {
  return readerWith('connections', envoys);
}

function readerWith(
  drainUntil: 'connections' | 'requests',
  envoys: readonly { envoy: FakeEnvoy; ready: boolean }[],
  counters?: Counters,
) {
  const targets = envoys.map(({ envoy, ready }, index) => {
    const number = index + 1;
    const directory = makeTempFolder();
    const own = ownIdentity();
    const generation = { number, directory, ready, envoy: own, runner: own, startedAt: '' };
    return { ...targetOf(envoy), generation: generation as unknown as Generation };
  });
  const newest = targets.findLast(({ generation }) => generation.ready) ?? assert.fail('none');
  const { generation } = newest;
  const located = { targets, newest, generation, latest: undefined, ledger: undecided };
  const hostDrain = { state: () => ({ kind: 'idle' }), current: () => undefined };
  return createStatusReader({
    config: {
      ...{ ignoreListeners: [], drainUntil, minOpenConnections: 0, checkDelayMs: 5_000 },
      ...{ drainTimeoutMs: 60_000, envoyConfig: '/etc/envoy.yaml', adminAddress: undefined },
      gracePeriodMs: undefined,
    },
    locator: { locate: async () => located as unknown as Located },
    hostDrain: hostDrain as unknown as HostDrain,
    clock: createFakeClock(),
    ...(counters ? { counters } : {}),
  });
}

describe('createStatusReader', () => {
  it('does not ask an Envoy that is starting, which would hide the one that serves', async () => {
    const [serving, starting] = [createFakeEnvoy(7), createFakeEnvoy()];
    const reader = readerOf({ envoy: serving, ready: true }, { envoy: starting, ready: false });
    const status = await reader.read();
    assert.deepEqual(starting.calls, []);
    assert.equal(status.connections?.open, 7);
    assert.deepEqual(
      status.generations.map(({ state, connections }) => [state, connections]),
      [
        ['serving', 7],
        ['starting', null],
      ],
    );
  });

  it('asks a second time only as often as 2 % of Envoy allow', async () => {
    const envoy = createFakeEnvoy(1);
    envoy.tookMs = 40;
    const reader = readerOf({ envoy, ready: true });
    await reader.read();
    const asked = envoy.calls.length;
    await reader.read();
    assert.equal(envoy.calls.length, asked);
  });

  it('shows what a drain has counted meanwhile, without asking Envoy again', async () => {
    const envoy = createFakeEnvoy(1);
    envoy.tookMs = 40;
    const counters = createCounters({ ignoreListeners: [], clock: createFakeClock() });
    const reader = readerWith('connections', [{ envoy, ready: true }], counters);
    await reader.read();
    setOpen(envoy, 5);
    await counters.of(targetOf(envoy)).count();
    const asked = envoy.calls.length;
    const { connections, lastPoll } = await reader.read();
    assert.equal(connections?.open, 5);
    assert.equal(lastPoll?.tookMs, 40);
    assert.equal(envoy.calls.length, asked);
  });

  it('remembers what was open, idle connections too, where only requests are waited for', async () => {
    const envoy = createFakeEnvoy();
    setOpen(envoy, 4, 1);
    const reader = readerWith('requests', [{ envoy, ready: true }]);
    await reader.read();
    assert.deepEqual(
      reader.history().map(({ open }) => open),
      [4],
    );
  });

  it('can not tell how many are open while one Envoy does not answer, and says what failed', async () => {
    const [hung, serving] = [createFakeEnvoy(1), createFakeEnvoy(2)];
    hung.fault = new Error('it hangs');
    const reader = readerOf({ envoy: hung, ready: true }, { envoy: serving, ready: true });
    const { connections, envoy } = await reader.read();
    assert.equal(connections, null);
    assert.equal(envoy?.state, 'LIVE');
  });
});
