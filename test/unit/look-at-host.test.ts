import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { HostDrain } from '../../src/drain/host-drain.js';
import type { EnvoyLocator, Located } from '../../src/drain/locate.js';
import { createWitness } from '../../src/drain/witness.js';
import type { Generation } from '../../src/host/generations.js';
import { ownIdentity } from '../../src/host/process-identity.js';
import { watchHealth } from '../../src/manager/health.js';
import { createStatusReader } from '../../src/status/status.js';
import {
  adminError,
  createFakeClock,
  createFakeEnvoy,
  createFakeLog,
  type FakeEnvoy,
  makeTempFolder,
  targetOf,
  undecided,
} from './fakes.js';

/** A host on which generation 2 takes over while the first look is at generation 1. */
function handsOver(handedOver: (old: FakeEnvoy) => void): EnvoyLocator {
  const old = createFakeEnvoy();
  handedOver(old);
  const hosts = [locatedAt(1, old), locatedAt(2, createFakeEnvoy())];
  return { locate: async () => hosts.shift() ?? locatedAt(2, createFakeEnvoy()) };
}

function locatedAt(number: number, envoy: FakeEnvoy): Located {
  const own = ownIdentity();
  const directory = makeTempFolder();
  const generation = { number, directory, ready: true, envoy: own, runner: own, startedAt: '' };
  const newest = { ...targetOf(envoy), generation: generation as unknown as Generation };
  return { targets: [newest], newest, generation, ledger: undecided } as unknown as Located;
}

const idle = {
  state: () => ({ kind: 'idle' }),
  current: () => undefined,
} as unknown as HostDrain;

const cases: readonly [string, (old: FakeEnvoy) => void][] = [
  ['has closed its listeners', (old) => Object.assign(old, { isClosed: true })],
  ['has ended', (old) => Object.assign(old, { fault: adminError('admin-gone') })],
];

describe('a generation that hands over while it is looked at', () => {
  for (const [what, handedOver] of cases) {
    it(`and ${what} does not make the host unready`, async () => {
      const health = watchHealth({
        config: { envoyLostAfterMs: 0, orphanedDrain: 'report' },
        locator: withoutFirst(handsOver(handedOver)),
        hostDrain: idle,
        witness: createWitness(),
        log: createFakeLog().log,
      });
      assert.equal(await health.unready(), undefined);
    });

    it(`and ${what} is not what the status shows`, async () => {
      const reader = createStatusReader({
        config: {
          ...{ ignoreListeners: [], drainUntil: 'connections', minOpenConnections: 0 },
          ...{ checkDelayMs: 5_000, drainTimeoutMs: 60_000, envoyConfig: '/etc/envoy.yaml' },
          ...{ adminAddress: undefined, gracePeriodMs: undefined },
        },
        locator: handsOver(handedOver),
        hostDrain: idle,
        clock: createFakeClock(),
      });
      const { listenersClosed, lastError, envoy } = await reader.read();
      assert.deepEqual([listenersClosed, lastError, envoy?.generation], [false, null, 2]);
    });
  }
});

describe('an Envoy at admin-address that does not answer', () => {
  it('is not located again, which would ask it', async () => {
    const hung = createFakeEnvoy(0, { foreign: true });
    hung.fault = adminError('admin-timeout');
    const target = targetOf(hung);
    const located = { targets: [target], newest: target, ledger: undecided };
    let asked = 0;
    const locate = async (): Promise<Located> => {
      asked += 1;
      return located as unknown as Located;
    };
    const health = watchHealth({
      config: { envoyLostAfterMs: 0, orphanedDrain: 'report' },
      locator: withoutFirst({ locate }),
      hostDrain: idle,
      witness: createWitness(),
      log: createFakeLog().log,
    });
    assert.equal((await health.unready())?.code, 'admin-timeout');
    assert.equal(asked, 1);
  });
});

/** The watch looks once by itself. */
function withoutFirst({ locate }: EnvoyLocator): EnvoyLocator {
  let isFirst = true;
  return {
    locate: async () => {
      if (!isFirst) return locate();
      isFirst = false;
      return undefined;
    },
  };
}
