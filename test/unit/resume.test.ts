import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { createDrainer, type Drainer } from '../../src/drain/drainer.js';
import { openLedger } from '../../src/drain/record.js';
import type { DrainConfig } from '../../src/drain/run.js';
import {
  createFakeClock,
  createFakeEnvoy,
  createFakeLog,
  deadIdentity,
  drainConfig,
  drainSteps,
  type FakeEnvoy,
  makeRecord,
  makeResult,
  makeTempFolder,
  targetOf,
} from './fakes.js';

function setUp(options: { config?: Partial<DrainConfig>; base?: string; envoy?: FakeEnvoy } = {}) {
  const envoy = options.envoy ?? createFakeEnvoy(3);
  const clock = createFakeClock();
  const { log } = createFakeLog();
  const base = options.base ?? join(makeTempFolder(), 'drain');
  /** As another process, or a later call, would open it. */
  const open = (): Drainer =>
    createDrainer({
      command: 'shutdown',
      targets: [targetOf(envoy)],
      ledger: openLedger({ base, log }),
      config: { ...drainConfig, ...options.config },
      host: drainSteps,
      log,
      clock,
    });
  const ledger = () => openLedger({ base, log });
  return { envoy, clock, base, open, ledger, startMs: clock.nowMs() };
}

describe('a drain that is cancelled', () => {
  it('in its delay: every caller gets cancelled, Envoy passes its health check, nothing is closed', async () => {
    const { envoy, clock, startMs, open } = setUp();
    const drainer = open();
    const callers = [drainer.drain(), drainer.drain()];
    let resumed: ReturnType<Drainer['resume']> | undefined;
    clock.at(startMs + 2_000, () => {
      resumed = drainer.resume();
    });
    for (const { outcome } of await Promise.all(callers)) assert.equal(outcome, 'cancelled');
    const result = await resumed;
    assert.equal(result?.kind, 'resumed');
    assert.equal(result.kind === 'resumed' && result.drain?.outcome, 'cancelled');
    assert.equal(envoy.calls.filter((call) => call === 'pass').length, 1);
    assert.equal(envoy.calls.includes('close'), false);
    assert.ok(clock.nowMs() - startMs < 4_000, 'at once, not at the end of check-delay');
  });

  it('while Envoy does not answer: the asking ends, and the outcome is cancelled', async () => {
    const { envoy, clock, startMs, open } = setUp();
    envoy.failFault = new Error('hung');
    const drainer = open();
    const caller = drainer.drain();
    let resumed: ReturnType<Drainer['resume']> | undefined;
    clock.at(startMs + 5_000, () => {
      resumed = drainer.resume();
    });
    assert.equal((await caller).outcome, 'cancelled');
    await resumed;
    assert.ok(clock.nowMs() - startMs < 20_000, 'bounded');
  });

  it('by another process: the leader finds out', async () => {
    const { clock, startMs, open, ledger, envoy } = setUp();
    const drained = open().drain();
    clock.at(startMs + 2_000, () => {
      assert.equal(ledger().decide('cancel'), 'cancel');
    });
    assert.equal((await drained).outcome, 'cancelled');
    assert.ok(envoy.calls.includes('pass'));
  });

  it('whose leader has died: who cancels it takes it over', async () => {
    const { clock, open, base, envoy } = setUp();
    const { log } = createFakeLog();
    const record = makeRecord(clock.nowMs(), { phase: 'delay', leader: deadIdentity });
    openLedger({ base, log, self: deadIdentity }).claim(record, clock.nowMs());
    const result = await open().resume();
    assert.equal(result.kind, 'resumed');
    assert.ok(envoy.calls.includes('pass'));
  });

  it('can be begun again, and then is another drain', async () => {
    const { clock, startMs, open, envoy } = setUp();
    const first = open();
    const caller = first.drain();
    clock.at(startMs + 2_000, () => void first.resume());
    assert.equal((await caller).outcome, 'cancelled');
    envoy.gauges['listener.web.downstream_cx_active'] = 0;
    const second = await open().drain();
    assert.equal(second.outcome, 'drained');
    assert.ok(envoy.calls.includes('close'));
    assert.deepEqual(await open().drain(), second, 'a later caller gets the second one');
  });
});

describe('a drain that can not be cancelled', () => {
  it('once its listeners are closed: it goes on to its end', async () => {
    const { clock, startMs, open, envoy } = setUp();
    const drainer = open();
    const caller = drainer.drain();
    let resumed: ReturnType<Drainer['resume']> | undefined;
    clock.at(startMs + 20_000, () => {
      resumed = drainer.resume();
    });
    clock.at(startMs + 30_000, () => {
      envoy.gauges['listener.web.downstream_cx_active'] = 0;
    });
    assert.equal((await caller).outcome, 'drained');
    assert.equal((await resumed)?.kind, 'too-late');
    assert.equal(envoy.calls.includes('pass'), false);
  });

  it('once it has been made final, even in its delay', async () => {
    const { clock, startMs, open, envoy } = setUp();
    const drainer = open();
    const caller = drainer.drain();
    assert.equal(drainer.makeFinal(), true);
    let resumed: ReturnType<Drainer['resume']> | undefined;
    clock.at(startMs + 2_000, () => {
      resumed = open().resume();
    });
    clock.at(startMs + 30_000, () => {
      envoy.gauges['listener.web.downstream_cx_active'] = 0;
    });
    assert.equal((await caller).outcome, 'drained');
    assert.equal((await resumed)?.kind, 'too-late');
  });

  it('is made final too late: it was cancelled just before', async () => {
    const { clock, open, ledger } = setUp();
    const drainer = open();
    const caller = drainer.drain();
    ledger().decide('cancel');
    assert.equal(drainer.makeFinal(), false);
    assert.equal((await caller).outcome, 'cancelled');
    assert.ok(clock.nowMs() > 0);
  });

  it('once it has ended', async () => {
    const { clock, open, ledger } = setUp();
    const record = makeRecord(clock.nowMs());
    const theirs = ledger();
    theirs.claim(record, clock.nowMs());
    theirs.finish(record, makeResult());
    assert.equal((await open().resume()).kind, 'too-late');
  });

  it('when there is none: nothing is done to an Envoy that is LIVE', async () => {
    const { open, envoy } = setUp();
    assert.deepEqual(await open().resume(), { kind: 'nothing' });
    assert.equal(envoy.calls.includes('pass'), false);
  });
});
