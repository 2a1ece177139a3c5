import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { DrainRecord } from '../../src/drain/record.js';
import { createDrainRun, type DrainConfig } from '../../src/drain/run.js';
import {
  adminError,
  createFakeClock,
  createFakeEnvoy,
  createFakeLog,
  drainConfig,
  type FakeEnvoy,
  makeRecord,
  setOpen,
  targetOf,
  undecided,
} from './fakes.js';

function setUp(
  options: {
    envoy?: FakeEnvoy;
    config?: Partial<DrainConfig>;
    record?: Partial<DrainRecord>;
    openFiles?: () => number;
    older?: FakeEnvoy;
  } = {},
) {
  const envoy = options.envoy ?? createFakeEnvoy(3);
  const clock = createFakeClock();
  const startMs = clock.nowMs();
  const fakeLog = createFakeLog();
  const run = createDrainRun({
    command: 'shutdown',
    record: makeRecord(startMs, options.record),
    ledger: undecided,
    targets: [
      ...(options.older ? [targetOf(options.older)] : []),
      { ...targetOf(envoy), ...(options.openFiles && { openFiles: options.openFiles }) },
    ],
    config: { ...drainConfig, ...options.config },
    clock,
    log: fakeLog.log,
  });
  return {
    envoy,
    clock,
    fakeLog,
    run,
    passedMs: () => clock.nowMs() - startMs,
    /** Does something `ms` after the start. */
    after: (ms: number, action: () => void) => clock.at(startMs + ms, action),
    /** One new connection each `everyMs`, up to `untilMs`. */
    connect: (everyMs: number, untilMs: number) => {
      for (let ms = everyMs; ms <= untilMs; ms += everyMs) {
        clock.at(startMs + ms, () => {
          const name = 'listener.web.downstream_cx_total';
          envoy.counters[name] = (envoy.counters[name] ?? 0) + 1;
        });
      }
    },
  };
}

const count = (calls: readonly string[], name: string): number =>
  calls.filter((call) => call === name).length;

describe('DrainRun failHealth', () => {
  it('fails the health check and counts the connections at the start', async () => {
    const { run, envoy } = setUp();
    assert.equal(run.connectionsAtStart, null);
    await run.failHealth();
    assert.deepEqual(envoy.calls, ['fail', 'Gauges']);
    assert.equal(run.connectionsAtStart, 3);
    assert.equal(run.connectionsLeft, 3);
    assert.equal(run.outcome, undefined);
  });

  it('keeps the count of the process that began the drain', async () => {
    const { run } = setUp({ record: { connectionsAtStart: 40 } });
    await run.failHealth();
    assert.equal(run.connectionsAtStart, 40);
  });

  it('goes on where allow_paths forbids it', async () => {
    const envoy = createFakeEnvoy(3);
    envoy.failFault = adminError('admin-refused');
    const { run, passedMs, fakeLog } = setUp({ envoy });
    await run.failHealth();
    assert.equal(passedMs(), 0);
    assert.equal(run.outcome, undefined);
    assert.equal(run.connectionsAtStart, 3);
    assert.equal(fakeLog.of('error').length, 1);
  });

  it('finds out that there is no Envoy any more', async () => {
    const { run, envoy } = setUp();
    envoy.die();
    await run.failHealth();
    assert.equal(run.outcome, 'envoy-gone');
    assert.equal(run.connectionsLeft, 0);
  });
});

describe('DrainRun delay', () => {
  it('waits for the whole check-delay without a quiet-period, though no one comes', async () => {
    const { run, passedMs } = setUp();
    await run.delay();
    assert.equal(passedMs(), 10_000);
    assert.equal(run.outcome, undefined);
  });

  it('does not wait at all with a check-delay of 0', async () => {
    const { run, passedMs } = setUp({ config: { checkDelayMs: 0, quietPeriodMs: 1_000 } });
    await run.delay();
    assert.equal(passedMs(), 0);
  });

  it('ends early once no connection has come for the quiet-period', async () => {
    const { run, passedMs, fakeLog } = setUp({ config: { quietPeriodMs: 2_000 } });
    await run.delay();
    assert.ok(passedMs() >= 2_000 && passedMs() < 2_500, `${passedMs()} ms`);
    assert.match(fakeLog.of('info')[0] ?? '', /no new connection for 2s/);
  });

  it('begins the quiet-period again with each connection', async () => {
    const { run, passedMs, connect } = setUp({ config: { quietPeriodMs: 2_000 } });
    connect(1_000, 5_000);
    await run.delay();
    assert.ok(passedMs() >= 7_000 && passedMs() < 7_700, `${passedMs()} ms`);
  });

  it('ends with check-delay where connections keep coming', async () => {
    const { run, passedMs, connect } = setUp({ config: { quietPeriodMs: 2_000 } });
    connect(500, 60_000);
    await run.delay();
    assert.equal(passedMs(), 10_000);
  });

  it('does not take an Envoy that can’t be asked for a quiet one', async () => {
    const { run, envoy, passedMs } = setUp({ config: { quietPeriodMs: 2_000 } });
    envoy.statsFault = adminError('admin-timeout');
    await run.delay();
    assert.equal(passedMs(), 10_000);
  });

  it('does not count the time that Envoy could not be asked as quiet', async () => {
    const { run, envoy, after, passedMs } = setUp({ config: { quietPeriodMs: 2_000 } });
    after(1_000, () => {
      envoy.statsFault = adminError('admin-timeout');
    });
    after(5_000, () => {
      envoy.statsFault = undefined;
    });
    await run.delay();
    assert.ok(passedMs() >= 7_000 && passedMs() < 7_700, `${passedMs()} ms`);
  });

  it('goes on with the delay of a leader that has died', async () => {
    const record = makeRecord(1_000_000, { delayStartedAtMs: 1_000_000 - 7_000 });
    const { run, passedMs } = setUp({ record });
    run.enter('delay');
    await run.delay();
    assert.equal(passedMs(), 3_000);
  });

  it('does not begin again where the delay is over', async () => {
    const { run, passedMs } = setUp({ record: { delayStartedAtMs: 1_000_000 - 11_000 } });
    await run.delay();
    assert.equal(passedMs(), 0);
  });

  it('ends with the drain’s deadline', async () => {
    const { run, passedMs } = setUp({ record: { deadlineMs: 1_000_000 + 4_000 } });
    await run.delay();
    assert.equal(passedMs(), 4_000);
  });

  it('ends immediately when Envoy dies', async () => {
    const { run, envoy, after, passedMs } = setUp();
    after(2_000, () => envoy.die());
    await run.delay();
    assert.equal(run.outcome, 'envoy-gone');
    assert.ok(passedMs() <= 3_000, `${passedMs()} ms`);
  });
});

describe('DrainRun close', () => {
  it('closes the listeners, after a count where there is none yet', async () => {
    const { run, envoy } = setUp();
    await run.close();
    assert.deepEqual(envoy.calls, ['Gauges', 'leave', 'close']);
    assert.equal(run.connectionsAtStart, 3);
  });

  it('goes on where allow_paths forbids it', async () => {
    const { run, envoy, passedMs } = setUp();
    envoy.closeFault = adminError('admin-refused');
    await run.close();
    assert.equal(count(envoy.calls, 'close'), 1);
    assert.ok(passedMs() < 1_000);
  });

  it('lets workers close their sockets before connections are counted', async () => {
    const { run, passedMs } = setUp();
    await run.close();
    assert.ok(passedMs() >= 10, `${passedMs()} ms`);
  });

  it('waits for workers that get no CPU to close theirs', async () => {
    const { run, envoy, after, passedMs } = setUp();
    envoy.closesLate = true;
    after(2_000, () => {
      envoy.isClosed = true;
    });
    await run.close();
    assert.ok(passedMs() >= 2_000 && passedMs() < 2_100, `${passedMs()} ms`);
  });

  it('does not wait for good where none is shown to be closed, nor at all where there is none', async () => {
    const { run, envoy, passedMs } = setUp();
    envoy.closesLate = true;
    await run.close();
    assert.ok(passedMs() >= 5_000 && passedMs() < 5_100, `${passedMs()} ms`);
    const empty = setUp();
    empty.envoy.closesLate = true;
    empty.envoy.admin.listeners = async () => [];
    await empty.run.close();
    assert.ok(empty.passedMs() < 100, `${empty.passedMs()} ms`);
  });
});

describe('DrainRun wait', () => {
  it('is drained immediately where nothing is open', async () => {
    const { run, passedMs } = setUp({ envoy: createFakeEnvoy(0) });
    await run.wait();
    assert.equal(run.outcome, 'drained');
    assert.equal(run.connectionsLeft, 0);
    assert.equal(passedMs(), 0);
  });

  it('is drained soon after the last connection has closed', async () => {
    const { run, envoy, after, passedMs } = setUp();
    after(3_000, () => setOpen(envoy, 1));
    after(7_000, () => setOpen(envoy, 0));
    await run.wait();
    assert.equal(run.outcome, 'drained');
    assert.ok(passedMs() >= 7_000 && passedMs() < 7_300, `${passedMs()} ms`);
  });

  it('times out at the deadline with what is left', async () => {
    const { run, envoy, after, passedMs } = setUp();
    after(30_000, () => setOpen(envoy, 2));
    await run.wait();
    assert.equal(run.outcome, 'timeout');
    assert.equal(run.connectionsLeft, 2);
    assert.equal(passedMs(), 60_000);
  });

  it('is over at the deadline also where files tell when to ask again', async () => {
    const { run, passedMs } = setUp({
      config: { checkIntervalMs: 5_000 },
      record: { deadlineMs: createFakeClock().nowMs() + 12_300 },
      openFiles: () => 50,
    });
    await run.wait();
    assert.equal(run.outcome, 'timeout');
    assert.ok(passedMs() <= 12_300 + 20, `${passedMs()} ms`);
  });

  it('looks once more at the deadline', async () => {
    const { run, envoy, after } = setUp();
    after(60_000, () => setOpen(envoy, 0));
    await run.wait();
    assert.equal(run.outcome, 'drained');
  });

  it('is drained, not timed out, when the deadline is over but nothing is open', async () => {
    const { run } = setUp({ envoy: createFakeEnvoy(0), record: { deadlineMs: 1 } });
    await run.wait();
    assert.equal(run.outcome, 'drained');
  });

  it('counts min-open-connections and fewer as drained, one more not', async () => {
    const config = { minOpenConnections: 2 };
    const enough = setUp({ envoy: createFakeEnvoy(2), config });
    await enough.run.wait();
    assert.equal(enough.run.outcome, 'drained');
    assert.equal(enough.run.connectionsLeft, 2);
    const tooMany = setUp({ envoy: createFakeEnvoy(3), config });
    await tooMany.run.wait();
    assert.equal(tooMany.run.outcome, 'timeout');
  });

  it('is admin-unreachable where Envoy lives but could not be asked to the end', async () => {
    const { run, envoy, passedMs } = setUp();
    envoy.fault = adminError('admin-timeout');
    await run.wait();
    assert.equal(run.outcome, 'admin-unreachable');
    assert.equal(run.connectionsLeft, null);
    assert.equal(run.lastError(), 'fake admin-timeout');
    assert.equal(passedMs(), 60_000);
  });

  it('is drained where Envoy answers again in time', async () => {
    const { run, envoy, after } = setUp();
    envoy.fault = adminError('admin-timeout');
    after(50_000, () => {
      envoy.fault = undefined;
      setOpen(envoy, 0);
    });
    await run.wait();
    assert.equal(run.outcome, 'drained');
  });

  it('is envoy-gone, with nothing left, soon after Envoy has died', async () => {
    const { run, envoy, after, passedMs } = setUp({ config: { checkIntervalMs: 30_000 } });
    setOpen(envoy, 900_000);
    after(5_000, () => envoy.die());
    await run.wait();
    assert.equal(run.outcome, 'envoy-gone');
    assert.equal(run.connectionsLeft, 0);
    assert.ok(passedMs() < 6_000, `${passedMs()} ms`);
  });

  it('asks again soon after the one that broke off its answer is gone, however expensive that is', async () => {
    const older = createFakeEnvoy(1);
    const { run, envoy, after, passedMs } = setUp({ older, config: { checkIntervalMs: 5_000 } });
    envoy.tookMs = 90;
    after(1_000, () => {
      older.fault = adminError('admin-failed');
      setOpen(envoy, 0);
    });
    after(4_800, () => older.die());
    await run.wait();
    assert.equal(run.outcome, 'drained');
    assert.ok(passedMs() < 5_200, `${passedMs()} ms`);
  });

  it('is envoy-gone where an Envoy of someone else refuses connections for a while', async () => {
    const envoy = createFakeEnvoy(3, { foreign: true });
    const { run, after, passedMs } = setUp({ envoy });
    after(5_000, () => {
      envoy.fault = adminError('admin-gone');
    });
    await run.wait();
    assert.equal(run.outcome, 'envoy-gone');
    assert.ok(passedMs() > 5_500 && passedMs() < 8_000, `${passedMs()} ms`);
  });

  it('never polls faster than check-interval-min, nor slower than check-interval', async () => {
    const { run, envoy, clock } = setUp();
    setOpen(envoy, 4);
    await run.wait();
    assert.ok(Math.min(...clock.sleeps) >= 250);
    const costly = setUp();
    costly.envoy.tookMs = 5_000;
    await costly.run.wait();
    assert.ok(count(costly.envoy.calls, 'Gauges') >= 60);
    assert.ok(count(costly.envoy.calls, 'Gauges') <= 65);
  });

  it('asks Envoy more rarely where an answer costs it more', async () => {
    const [cheap, costly] = [setUp(), setUp()];
    costly.envoy.tookMs = 18;
    await cheap.run.wait();
    await costly.run.wait();
    assert.ok(count(cheap.envoy.calls, 'Gauges') > 3 * count(costly.envoy.calls, 'Gauges'));
    assert.ok(count(costly.envoy.calls, 'Gauges') * 18 <= 0.021 * 60_000);
  });

  it('falls back to http gauges where listeners are hidden', async () => {
    const { run, envoy, after, fakeLog } = setUp();
    envoy.gauges = { 'http.web.downstream_cx_active': 2, 'http.web.downstream_rq_active': 0 };
    after(2_000, () => {
      envoy.gauges['http.web.downstream_cx_active'] = 0;
    });
    await run.wait();
    assert.equal(run.outcome, 'drained');
    assert.equal(fakeLog.of('warn').filter((line) => line.includes('no listener')).length, 1);
  });

  it('never takes a reply without any gauge for drained', async () => {
    const envoy = createFakeEnvoy(3, { foreign: true });
    envoy.gauges = {};
    const { run } = setUp({ envoy });
    await run.wait();
    assert.equal(run.outcome, 'admin-unreachable');
  });
});

describe('DrainRun wait by drain-until requests', () => {
  const config = { drainUntil: 'requests' as const };

  it('does not wait for idle connections', async () => {
    const { run, envoy } = setUp({ config });
    setOpen(envoy, 50, 0);
    await run.wait();
    assert.equal(run.outcome, 'drained');
    assert.equal(run.connectionsLeft, 50);
  });

  it('needs three calm polls in a row', async () => {
    const { run, envoy } = setUp({ config });
    setOpen(envoy, 5, 0);
    await run.wait();
    assert.equal(count(envoy.calls, 'Gauges'), 3);
  });

  it('needs one where no more connections are open than may be', async () => {
    const { run, envoy } = setUp({ config, record: { deadlineMs: 1 } });
    setOpen(envoy, 0);
    await run.wait();
    assert.equal(run.outcome, 'drained');
    assert.equal(count(envoy.calls, 'Gauges'), 1);
    const few = setUp({ config: { ...config, minOpenConnections: 5 }, record: { deadlineMs: 1 } });
    setOpen(few.envoy, 5, 5);
    await few.run.wait();
    assert.equal(few.run.outcome, 'drained');
  });

  it('begins to count again when a request comes in between', async () => {
    const { run, envoy } = setUp({ config });
    const busy = [0, 0, 1, 0, 0, 2, 0, 0, 0, 0];
    let polls = 0;
    const { stats } = envoy.admin;
    envoy.admin.stats = (query) => {
      setOpen(envoy, 5, busy[polls] ?? 0);
      polls += 1;
      return stats(query);
    };
    await run.wait();
    assert.equal(run.outcome, 'drained');
    assert.equal(polls, 9);
  });

  it('begins to count again when a poll failed in between', async () => {
    const { run, envoy } = setUp({ config });
    let polls = 0;
    const { stats } = envoy.admin;
    envoy.admin.stats = (query) => {
      polls += 1;
      setOpen(envoy, 5, 0);
      return polls === 3 ? Promise.reject(adminError('admin-timeout')) : stats(query);
    };
    await run.wait();
    assert.equal(polls, 6);
  });

  it('waits for requests, TCP connections and upgrades together', async () => {
    const { run, envoy, after, passedMs } = setUp({ config });
    setOpen(envoy, 5, 1);
    envoy.gauges['listener.tcp.downstream_cx_active'] = 1;
    after(4_000, () => setOpen(envoy, 5, 0));
    after(9_000, () => {
      envoy.gauges['listener.tcp.downstream_cx_active'] = 0;
    });
    await run.wait();
    assert.equal(run.outcome, 'drained');
    assert.ok(passedMs() >= 9_000 && passedMs() < 10_000, `${passedMs()} ms`);
  });

  it('compares with min-open-connections', async () => {
    const { run, envoy } = setUp({ config: { ...config, minOpenConnections: 2 } });
    setOpen(envoy, 50, 2);
    await run.wait();
    assert.equal(run.outcome, 'drained');
  });

  it('times out while requests go on', async () => {
    const { run } = setUp({ config });
    await run.wait();
    assert.equal(run.outcome, 'timeout');
  });
});

describe('DrainRun once the outcome is known', () => {
  it('calls Envoy no more and takes no time', async () => {
    const { run, envoy, passedMs } = setUp({ envoy: createFakeEnvoy(0) });
    await run.wait();
    const calls = envoy.calls.length;
    for (const step of [run.failHealth, run.delay, run.close, run.wait]) await step();
    assert.equal(envoy.calls.length, calls);
    assert.equal(run.outcome, 'drained');
    assert.equal(passedMs(), 0);
  });

  it('keeps it, though Envoy dies afterwards', async () => {
    const { run, envoy } = setUp({ envoy: createFakeEnvoy(0) });
    await run.wait();
    envoy.die();
    await run.wait();
    assert.equal(run.outcome, 'drained');
  });
});

describe('DrainRun enter', () => {
  it('changes the phase and gives a record of its own', () => {
    const { run } = setUp();
    const record = run.enter('close');
    assert.equal(run.phase, 'close');
    assert.equal(record.phase, 'close');
    record.phase = 'finish';
    assert.equal(run.phase, 'close');
  });

  it('notes when the delay began, once', () => {
    const { run, clock } = setUp();
    const startMs = clock.nowMs();
    assert.equal(run.enter('fail-health').delayStartedAtMs, undefined);
    assert.equal(run.enter('delay').delayStartedAtMs, startMs);
    clock.advance(500);
    assert.equal(run.enter('delay').delayStartedAtMs, startMs);
  });

  it('does not change the record that it was made from', () => {
    const record = makeRecord(1_000_000);
    setUp({ record }).run.enter('wait');
    assert.equal(record.phase, 'fail-health');
  });
});

describe('DrainRun timeLeftMs', () => {
  it('runs down to 0 and not below', () => {
    const { run, clock } = setUp();
    assert.equal(run.timeLeftMs(), 60_000);
    clock.advance(59_000);
    assert.equal(run.timeLeftMs(), 1_000);
    clock.advance(59_000);
    assert.equal(run.timeLeftMs(), 0);
  });
});
