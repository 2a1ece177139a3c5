import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { createHostDrain, type HostDrain } from '../../src/drain/host-drain.js';
import type { Located } from '../../src/drain/locate.js';
import { openLedger } from '../../src/drain/record.js';
import {
  type DrainState,
  describeEnded,
  describeTooLate,
  keepsHostOut,
  originOfCommand,
} from '../../src/drain/state.js';
import { ownIdentity } from '../../src/host/process-identity.js';
import {
  createFakeEnvoy,
  createFakeLog,
  drainConfig,
  drainSteps,
  type FakeEnvoy,
  makeRecord,
  makeResult,
  makeTempFolder,
  targetOf,
} from './fakes.js';

/** A host with an Envoy that pm2-envoy did not start; tests put another one in its place. */
function setUp(envoy?: FakeEnvoy) {
  const base = join(makeTempFolder(), 'drain');
  const { log } = createFakeLog();
  const now: { envoy: FakeEnvoy | undefined; startedAtMs: number | undefined } = {
    envoy,
    startedAtMs: 1_000_000,
  };
  let runs = 0;
  let begun = 0;
  const locate = async (): Promise<Located | undefined> => {
    if (!now.envoy) return undefined;
    const newest = targetOf(now.envoy, 'Envoy at unix:/fake.sock');
    const { startedAtMs: envoyStartedAtMs } = now;
    const ledger = openLedger({ base, log, foreign: { envoyStartedAtMs } });
    return {
      targets: [newest],
      newest,
      generation: undefined,
      applies: () => true,
      covers: () => true,
      now: undefined,
      ledger,
      envoyStartedAtMs,
    };
  };
  const hostDrain: HostDrain = createHostDrain({
    locator: { locate },
    config: { ...drainConfig, checkDelayMs: 0, drainTimeoutMs: 5_000 },
    host: {
      run: (command, call) => {
        runs += 1;
        return drainSteps.run(command, call);
      },
    },
    log,
    onDrain: () => {
      begun += 1;
    },
  });
  return { hostDrain, base, now, locate, runs: () => runs, begun: () => begun };
}

describe('createHostDrain drain', () => {
  it('drains the Envoy that lives now', async () => {
    const envoy = createFakeEnvoy();
    const { hostDrain } = setUp(envoy);
    assert.equal((await hostDrain.drain()).outcome, 'drained');
    const told = envoy.calls.filter((call) => call === 'fail' || call === 'close');
    assert.deepEqual(told, ['fail', 'close']);
  });

  it('is envoy-gone immediately where there is no Envoy', async () => {
    const { hostDrain, runs } = setUp();
    const { outcome, connectionsLeft } = await hostDrain.drain();
    assert.deepEqual({ outcome, connectionsLeft }, { outcome: 'envoy-gone', connectionsLeft: 0 });
    assert.equal(runs(), 0);
  });

  it('is one drain for callers that come at the same moment', async () => {
    const { hostDrain, runs, begun } = setUp(createFakeEnvoy());
    const [first, second] = await Promise.all([hostDrain.drain(), hostDrain.drain()]);
    assert.equal(first, second);
    assert.deepEqual([runs(), begun()], [1, 1]);
  });

  it('is not run again for the same Envoy', async () => {
    const { hostDrain, runs } = setUp(createFakeEnvoy());
    const result = await hostDrain.drain();
    assert.equal(await hostDrain.drain(), result);
    assert.equal(runs(), 1);
  });

  it('keeps its result when Envoy has ended since', async () => {
    const { hostDrain, now } = setUp(createFakeEnvoy());
    const result = await hostDrain.drain();
    now.envoy = undefined;
    assert.equal(await hostDrain.drain(), result);
  });

  it('drains an Envoy that was started again', async () => {
    const { hostDrain, now } = setUp(createFakeEnvoy());
    await hostDrain.drain();
    const next = createFakeEnvoy();
    now.envoy = next;
    now.startedAtMs = 2_000_000;
    assert.equal((await hostDrain.drain()).outcome, 'drained');
    assert.ok(next.calls.includes('close'));
  });

  it('drains an Envoy that was started again after the last drain had found it gone', async () => {
    const ended = createFakeEnvoy();
    ended.die();
    const { hostDrain, now } = setUp(ended);
    now.startedAtMs = undefined;
    assert.equal((await hostDrain.drain()).outcome, 'envoy-gone');
    const next = createFakeEnvoy();
    now.envoy = next;
    now.startedAtMs = 2_000_000;
    assert.equal((await hostDrain.drain()).outcome, 'drained');
    assert.ok(next.calls.includes('close'));
  });
});

describe('createHostDrain state', () => {
  it('is idle, then draining, then ended', async () => {
    const { hostDrain, locate } = setUp(createFakeEnvoy());
    assert.deepEqual(hostDrain.state(await locate()), { kind: 'idle' });
    const drain = hostDrain.drain();
    const located = await locate();
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(hostDrain.state(located).kind, 'draining');
    const result = await drain;
    isPart(hostDrain.state(await locate()), { kind: 'ended', result });
  });

  it('is idle for an Envoy that was started since the last drain', async () => {
    const { hostDrain, locate, now } = setUp(createFakeEnvoy());
    await hostDrain.drain();
    now.startedAtMs = 2_000_000;
    assert.deepEqual(hostDrain.state(await locate()), { kind: 'idle' });
  });

  it('is that of another process where the record tells of one', async () => {
    const { hostDrain, locate } = setUp(createFakeEnvoy());
    const result = await hostDrain.drain();
    const other = createHostDrain({
      locator: { locate },
      config: drainConfig,
      host: drainSteps,
      log: createFakeLog().log,
    });
    isPart(other.state(await locate()), { kind: 'ended', result });
  });
});

describe('createHostDrain with a drain whose leader has gone in its delay', () => {
  const gone = { ...ownIdentity(), pid: 2 ** 30 };
  const setUpGone = async (word: 'LIVE' | 'DRAINING') => {
    const envoy = createFakeEnvoy(0, { foreign: true });
    envoy.admin = { ...envoy.admin, state: async () => word };
    const host = setUp(envoy);
    const foreign = { envoyStartedAtMs: host.now.startedAtMs };
    const ledger = openLedger({ base: host.base, log: createFakeLog().log, foreign, self: gone });
    const nowMs = performance.now();
    ledger.claim(makeRecord(nowMs, { phase: 'delay' }), nowMs);
    const calls = () => envoy.calls.filter((call) => call === 'fail' || call === 'close');
    return { ...host, calls, state: async () => host.hostDrain.state(await host.locate()) };
  };

  it('takes it for cancelled where Envoy passes its health check', async () => {
    const { hostDrain, calls, state } = await setUpGone('LIVE');
    await hostDrain.resumeAbandoned();
    assert.deepEqual(await state(), { kind: 'idle' });
    assert.deepEqual(calls(), []);
  });

  it('begins another one for a caller then, from its beginning', async () => {
    const { hostDrain, calls } = await setUpGone('LIVE');
    assert.equal((await hostDrain.drain()).outcome, 'drained');
    assert.deepEqual(calls(), ['fail', 'close']);
  });

  it('continues it where Envoy fails its health check', async () => {
    const { hostDrain, calls } = await setUpGone('DRAINING');
    await hostDrain.resumeAbandoned();
    assert.equal((await hostDrain.drain()).outcome, 'drained');
    assert.deepEqual(calls(), ['close']);
  });
});

describe('describeEnded', () => {
  it('calls a host drained only when no connection was open', () => {
    assert.match(
      describeEnded(makeResult()),
      /^drained at 2026-01-01T00:00:01.234Z; bring it back/,
    );
    assert.match(
      describeEnded(makeResult({ outcome: 'envoy-gone' })),
      /^drained at .* \(envoy-gone\);/,
    );
    assert.match(
      describeEnded(makeResult({ outcome: 'timeout', connectionsLeft: 2 })),
      /^out of service since .* \(timeout, with 2 open\); bring it back/,
    );
  });
});

/** Whether each of these members is as expected. */
function isPart(state: DrainState, expected: object): void {
  assert.deepEqual({ ...state, ...expected }, state);
}

describe('originOfCommand', () => {
  it('is a stop in what systemd runs after a stop, so the next start brings the host back', () => {
    const byHand = originOfCommand('alice', {});
    assert.deepEqual(byHand, { kind: 'cli', detail: 'alice' });
    assert.equal(keepsHostOut(byHand), true);
    assert.equal(keepsHostOut(originOfCommand('alice', { SERVICE_RESULT: 'success' })), false);
  });
});

describe('describeTooLate', () => {
  it('says what starts an Envoy where there is none, whether or not pm2 has the app', async () => {
    const none = await setUp().hostDrain.resume();
    assert.equal(
      none.kind === 'too-late' && describeTooLate(none.reason),
      "there is no Envoy: the drain can't be cancelled; `pm2-envoy redeploy` starts one, or `pm2 start ecosystem.config.js` where pm2 does not have the app",
    );
    assert.match(
      describeTooLate('its listeners are closed'),
      /`pm2-envoy redeploy` brings up a new/,
    );
  });
});
