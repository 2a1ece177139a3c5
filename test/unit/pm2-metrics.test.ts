import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createCounters } from '../../src/drain/count.js';
import type { Located } from '../../src/drain/locate.js';
import type { DrainState } from '../../src/drain/state.js';
import { createPm2Metrics } from '../../src/manager/metrics/pm2.js';
import {
  adminError,
  createFakeClock,
  createFakeEnvoy,
  type FakeClock,
  type FakeEnvoy,
  makeResult,
  setOpen,
  targetOf,
} from './fakes.js';

const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

interface World {
  envoy: FakeEnvoy;
  clock: FakeClock;
  located: Located | undefined;
  state: DrainState;
  isOpen: boolean;
  /** What the kernel says that Envoy has open. */
  files: number | undefined;
  /** What is shown. */
  shown: Record<string, number | string>;
  /** How often Envoy was asked. */
  asked(): number;
  look(): Promise<void>;
}

function makeWorld(open = 0): World {
  const envoy = createFakeEnvoy(open);
  const clock = createFakeClock();
  const target = { ...targetOf(envoy), openFiles: () => world.files };
  const world: World = {
    envoy,
    clock,
    located: {
      targets: [target],
      newest: target,
      generation: undefined,
      applies: () => true,
      covers: () => true,
      now: undefined,
      ledger: undefined as never,
      envoyStartedAtMs: undefined,
    },
    state: { kind: 'idle' },
    isOpen: true,
    files: undefined,
    shown: {},
    asked: () => envoy.calls.length,
    look: async () => {
      metrics.look(world.located);
      for (let turn = 0; turn < 20; turn += 1) await nextTurn();
    },
  };
  const metrics = createPm2Metrics({
    channel: {
      isOpen: () => world.isOpen,
      showMetrics: (values) => void Object.assign(world.shown, values),
    },
    counters: createCounters({ ignoreListeners: [], clock }),
    locator: { locate: async () => world.located },
    hostDrain: { state: () => world.state },
    clock,
  });
  return world;
}

function draining(clock: FakeClock, leftMs: number): DrainState {
  const startedAt = '2026-01-01T00:00:00.000Z';
  const deadlineMs = clock.nowMs() + leftMs;
  return { kind: 'draining', phase: 'wait', startedAt, deadlineMs, connectionsAtStart: 3 };
}

describe('createPm2Metrics', () => {
  it('shows the open connections and that it is idle, and nothing of a drain', async () => {
    const world = makeWorld(3);
    await world.look();
    assert.deepEqual(world.shown, { 'open connections': 3, phase: 'idle' });
  });

  it('shows 0 where there is no Envoy, and unknown where it can’t be asked', async () => {
    const world = makeWorld(3);
    world.envoy.statsFault = adminError('admin-timeout');
    await world.look();
    assert.equal(world.shown['open connections'], 'unknown');
    world.located = undefined;
    await world.look();
    assert.equal(world.shown['open connections'], 0);
  });

  it('shows unknown where the gauges are hidden', async () => {
    const world = makeWorld(3);
    world.envoy.gauges = {};
    const [target] = world.located?.targets ?? [];
    world.located = world.located &&
      target && { ...world.located, targets: [{ ...target, process: undefined }] };
    await world.look();
    assert.equal(world.shown['open connections'], 'unknown');
  });

  it('does not ask, nor show, without pm2', async () => {
    const world = makeWorld(3);
    world.isOpen = false;
    await world.look();
    assert.deepEqual([world.asked(), world.shown], [0, {}]);
  });

  it('looks each second in a drain, and stops at its end', async () => {
    const world = makeWorld(2);
    world.state = draining(world.clock, 10_000);
    const seen: unknown[] = [];
    for (const leftMs of [9_000, 8_000]) {
      world.clock.at(world.clock.nowMs() + 10_000 - leftMs, () => {
        seen.push({ ...world.shown });
        setOpen(world.envoy, 1);
      });
    }
    world.clock.at(world.clock.nowMs() + 3_000, () => {
      setOpen(world.envoy, 0);
      world.state = { kind: 'ended', result: makeResult({ outcome: 'drained' }) };
    });
    await world.look();
    const drain = { phase: 'wait', outcome: '-' };
    assert.deepEqual(seen, [
      { 'open connections': 2, 'time left': '10s', ...drain },
      { 'open connections': 1, 'time left': '9s', ...drain },
    ]);
    assert.deepEqual(world.shown, {
      'open connections': 0,
      phase: 'finish',
      'time left': '-',
      outcome: 'drained',
    });
    assert.deepEqual(world.clock.sleeps, [1_000, 1_000, 1_000]);
  });

  it('shows that nothing is left of a drain that was cancelled', async () => {
    const world = makeWorld(2);
    world.state = draining(world.clock, 10_000);
    world.clock.at(world.clock.nowMs() + 1_000, () => {
      world.state = { kind: 'idle' };
    });
    await world.look();
    const { phase, outcome, 'time left': left } = world.shown;
    assert.deepEqual([phase, outcome, left], ['idle', '-', '-']);
  });

  it('does not ask again while Envoy’s open files stay the same, for a minute', async () => {
    const world = makeWorld(3);
    world.files = 40;
    for (const afterMs of [0, 5_000, 5_000]) {
      world.clock.advance(afterMs);
      await world.look();
    }
    assert.equal(world.asked(), 1);
    world.clock.advance(50_000);
    await world.look();
    assert.equal(world.asked(), 2);
    world.files = 41;
    setOpen(world.envoy, 4);
    world.clock.advance(1_000);
    await world.look();
    assert.equal(world.shown['open connections'], 4);
  });

  it('asks at each look while there are connections over QUIC, which share a file', async () => {
    const world = makeWorld(3);
    world.files = 40;
    world.envoy.gauges['http.web.downstream_cx_http3_active'] = 1;
    for (let looks = 0; looks < 3; looks += 1) {
      await world.look();
      world.clock.advance(5_000);
    }
    assert.equal(world.asked(), 3);
  });

  it('asks at each look where the kernel does not tell, and where Envoy did not answer', async () => {
    const world = makeWorld(3);
    for (const files of [undefined, undefined, 40]) {
      world.files = files;
      world.clock.advance(5_000);
      world.envoy.statsFault = files === 40 ? adminError('admin-timeout') : undefined;
      await world.look();
    }
    world.envoy.statsFault = undefined;
    world.clock.advance(5_000);
    await world.look();
    assert.deepEqual([world.asked(), world.shown['open connections']], [4, 3]);
  });

  it('asks in a drain even while Envoy’s open files stay the same', async () => {
    const world = makeWorld(3);
    world.files = 40;
    await world.look();
    world.state = draining(world.clock, 10_000);
    setOpen(world.envoy, 2);
    world.clock.advance(5_000);
    world.clock.at(world.clock.nowMs() + 2_000, () => {
      world.state = { kind: 'idle' };
    });
    await world.look();
    assert.equal(world.shown['open connections'], 2);
  });

  it('asks an Envoy that takes long for it less often, so that it costs 1 % at most', async () => {
    const world = makeWorld(3);
    world.envoy.tookMs = 44;
    for (let second = 0; second < 9; second += 1) {
      await world.look();
      world.clock.advance(1_000);
    }
    assert.equal(world.asked(), 2);
  });

  it('does not take one slow answer for the cost of asking', async () => {
    const world = makeWorld(3);
    for (const [second, tookMs] of [0.4, 300, 0.4].entries()) {
      world.envoy.tookMs = tookMs;
      setOpen(world.envoy, second);
      await world.look();
      world.clock.advance(1_000);
    }
    assert.equal(world.shown['open connections'], 2);
  });
});
