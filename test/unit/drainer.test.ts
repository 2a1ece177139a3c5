import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { createDrainer } from '../../src/drain/drainer.js';
import { type DrainLedger, type DrainRecord, openLedger } from '../../src/drain/record.js';
import { readAll, readNewest } from '../../src/drain/record-files.js';
import type { DrainConfig } from '../../src/drain/run.js';
import type { DrainCommand } from '../../src/drain/state.js';
import { identify, ownIdentity } from '../../src/host/process-identity.js';
import type { PluginHost } from '../../src/plugins/api/types.js';
import {
  adminError,
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
  setOpen,
  targetOf,
} from './fakes.js';

const children: ChildProcess[] = [];
after(() => {
  for (const child of children) child.kill('SIGKILL');
});

function setUp(
  options: {
    envoy?: FakeEnvoy;
    config?: Partial<DrainConfig>;
    command?: DrainCommand;
    host?: Pick<PluginHost, 'run'>;
    base?: string;
    ledger?: DrainLedger;
    limitMs?: number;
  } = {},
) {
  const envoy = options.envoy ?? createFakeEnvoy(3);
  const clock = createFakeClock();
  const fakeLog = createFakeLog();
  const base = options.base ?? join(makeTempFolder(), 'drain');
  const drainer = createDrainer({
    command: options.command ?? 'shutdown',
    targets: [targetOf(envoy)],
    ledger: options.ledger ?? openLedger({ base, log: fakeLog.log }),
    config: { ...drainConfig, ...options.config },
    host: options.host ?? drainSteps,
    log: fakeLog.log,
    clock,
    ...(options.limitMs === undefined ? {} : { limitMs: options.limitMs }),
  });
  const startMs = clock.nowMs();
  return {
    envoy,
    clock,
    fakeLog,
    base,
    drainer,
    startMs,
    passedMs: () => clock.nowMs() - startMs,
    record: (): Partial<DrainRecord> => readNewest(base) ?? {},
  };
}

describe('createDrainer drain', () => {
  it('is drained: with its duration, and connections at the start and left', async () => {
    const { drainer, envoy, clock, startMs } = setUp();
    clock.at(startMs + 15_000, () => setOpen(envoy, 0));
    const { startedAt, durationMs, ...result } = await drainer.drain();
    assert.deepEqual(result, {
      outcome: 'drained',
      phase: 'finish',
      connectionsAtStart: 3,
      connectionsLeft: 0,
    });
    assert.equal(new Date(startedAt).toISOString(), startedAt);
    assert.ok(durationMs >= 15_000 && durationMs < 15_500, `${durationMs} ms`);
  });

  it('fails the health check, then closes the listeners, then waits', async () => {
    const { drainer, envoy } = setUp({ envoy: createFakeEnvoy(0) });
    await drainer.drain();
    const order = envoy.calls.filter((call) => call === 'fail' || call === 'close');
    assert.deepEqual(order, ['fail', 'close']);
    assert.equal(envoy.calls.at(-1), 'Gauges');
  });

  it('does not touch the health of the host in a hand-over, nor wait for load balancers', async () => {
    const { drainer, envoy, passedMs } = setUp({
      envoy: createFakeEnvoy(0),
      command: 'handover',
    });
    assert.equal((await drainer.drain()).outcome, 'drained');
    assert.ok(!envoy.calls.includes('fail'));
    assert.ok(envoy.calls.includes('close'));
    assert.ok(passedMs() < 1_000);
  });

  it('times out within drain-timeout, counted from its start', async () => {
    const { drainer, passedMs } = setUp();
    const result = await drainer.drain();
    assert.equal(result.outcome, 'timeout');
    assert.equal(result.connectionsLeft, 3);
    assert.equal(result.durationMs, 60_000);
    assert.equal(passedMs(), 60_000);
  });

  it('ends within a shorter limit than drain-timeout, but not with a longer one', async () => {
    assert.equal((await setUp({ limitMs: 20_000 }).drainer.drain()).durationMs, 20_000);
    assert.equal((await setUp({ limitMs: 900_000 }).drainer.drain()).durationMs, 60_000);
  });

  it('is admin-unreachable, and bounded, where Envoy does not answer', async () => {
    const { drainer, envoy, passedMs } = setUp();
    envoy.fault = adminError('admin-timeout');
    const result = await drainer.drain();
    assert.equal(result.outcome, 'admin-unreachable');
    assert.equal(result.connectionsAtStart, null);
    assert.equal(result.connectionsLeft, null);
    assert.ok(passedMs() >= 60_000 && passedMs() < 61_000, `${passedMs()} ms`);
  });

  it('is envoy-gone where Envoy dies', async () => {
    const { drainer, envoy, clock, startMs } = setUp();
    clock.at(startMs + 12_000, () => envoy.die());
    const result = await drainer.drain();
    assert.equal(result.outcome, 'envoy-gone');
    assert.equal(result.connectionsLeft, 0);
    assert.ok(result.durationMs < 13_000);
  });

  it('waits, but is never drained, where Envoy forbids every path that drains', async () => {
    const { drainer, envoy, clock, startMs } = setUp();
    envoy.failFault = adminError('admin-refused');
    envoy.closeFault = adminError('admin-refused');
    clock.at(startMs + 20_000, () => setOpen(envoy, 0));
    const { outcome, durationMs, connectionsLeft } = await drainer.drain();
    assert.deepEqual([outcome, connectionsLeft], ['admin-unreachable', 0]);
    assert.ok(durationMs >= 20_000 && durationMs < 26_000, `${durationMs} ms`);
    assert.equal(envoy.calls.filter((call) => call === 'close').length, 1, 'it is not asked again');
    assert.match(drainer.current()?.lastError() ?? '', /refused to close its listeners/);
  });

  it('gives every caller the same promise, also after the end', async () => {
    const { drainer, envoy, clock } = setUp({ envoy: createFakeEnvoy(0) });
    const promises = [drainer.drain(), drainer.drain()];
    const result = await promises[0];
    const calls = envoy.calls.length;
    const endMs = clock.nowMs();
    assert.equal(drainer.drain(), promises[0]);
    assert.equal(promises[1], promises[0]);
    assert.equal(await drainer.drain(), result);
    assert.equal(envoy.calls.length, calls);
    assert.equal(clock.nowMs(), endMs);
  });

  it('gives an outcome though the hooks’ host fails, and logs why', async () => {
    const host = { run: () => Promise.reject(new Error('broken host')) };
    const { drainer, fakeLog } = setUp({ host });
    const result = await drainer.drain();
    assert.equal(result.outcome, 'admin-unreachable');
    assert.match(fakeLog.of('error').join(), /broken host/);
  });

  it('ends with one log line: information when all went well, else a warning', async () => {
    const endings = (lines: string[]) => lines.filter((line) => line.includes('shutdown ended'));
    const fine = setUp({ envoy: createFakeEnvoy(0) });
    await fine.drainer.drain();
    assert.equal(endings(fine.fakeLog.of('info')).length, 1);
    assert.match(endings(fine.fakeLog.of('info'))[0] ?? '', /drained .* connections left: 0/);
    const late = setUp();
    await late.drainer.drain();
    assert.match(endings(late.fakeLog.of('warn'))[0] ?? '', /timeout .* connections left: 3/);
  });
});

describe('createDrainer state', () => {
  it('is idle, then draining through the phases, then ended', async () => {
    const seen: string[] = [];
    const host: Pick<PluginHost, 'run'> = {
      run: (command, call = {}) =>
        drainSteps.run(command, {
          ...call,
          onEvent: (event) => {
            call.onEvent?.(event);
            const state = drainer.state();
            seen.push(state.kind === 'draining' ? state.phase : state.kind);
          },
        }),
    };
    const { drainer, startMs } = setUp({ envoy: createFakeEnvoy(0), host });
    assert.deepEqual(drainer.state(), { kind: 'idle' });
    assert.equal(drainer.current(), undefined);
    const promise = drainer.drain();
    const state = drainer.state();
    assert.equal(state.kind, 'draining');
    assert.equal(state.kind === 'draining' && state.deadlineMs, startMs + 60_000);
    const result = await promise;
    assert.deepEqual(seen, ['fail-health', 'delay', 'close', 'wait', 'finish']);
    const ended = drainer.state();
    assert.equal(ended.kind === 'ended' && ended.result, result);
    assert.deepEqual(ended.kind === 'ended' && ended.steps?.map(({ phase }) => phase), seen);
    assert.deepEqual(ended.kind === 'ended' && ended.startedBy, { kind: 'unknown' });
    assert.equal(drainer.current()?.outcome, 'drained');
  });
});

describe('createDrainer with a record that is there already', () => {
  it('writes progress and the result down for others', async () => {
    const { drainer, record, envoy, clock, startMs } = setUp();
    let half: Record<string, unknown> = {};
    clock.at(startMs + 5_000, () => {
      half = record();
    });
    clock.at(startMs + 20_000, () => setOpen(envoy, 0));
    const result = await drainer.drain();
    assert.equal(half['phase'], 'delay');
    assert.equal(half['connectionsAtStart'], 3);
    assert.equal(half['result'], undefined);
    assert.deepEqual(record()['result'], result);
    assert.equal(record()['phase'], 'finish');
  });

  it('immediately gives the result of a drain that has ended, without calling Envoy', async () => {
    const base = join(makeTempFolder(), 'drain');
    const ledger = openLedger({ base, log: createFakeLog().log });
    const result = makeResult({ outcome: 'timeout', connectionsLeft: 9 });
    ledger.claim(makeRecord(900_000), 900_000);
    ledger.finish(makeRecord(900_000), result);
    const { drainer, envoy, passedMs } = setUp({ base });
    assert.deepEqual(await drainer.drain(), result);
    assert.deepEqual(envoy.calls, []);
    assert.equal(passedMs(), 0);
    assert.equal(drainer.state().kind, 'ended');
  });

  it('follows another leader to its result, and leaves Envoy to it', async () => {
    const child = spawn('sleep', ['60'], { stdio: 'ignore' });
    children.push(child);
    await once(child, 'spawn');
    const leader = identify(child.pid ?? 0) ?? assert.fail();
    const base = join(makeTempFolder(), 'drain');
    const theirs = openLedger({ base, self: leader, log: createFakeLog().log });
    const first = makeRecord(1_000_000 - 5_000, { leader, phase: 'wait', connectionsAtStart: 8 });
    theirs.claim(first, 1_000_000);
    const { drainer, envoy, clock, startMs, passedMs } = setUp({ base });
    clock.at(startMs + 4_000, () => {
      theirs.finish(first, makeResult({ connectionsAtStart: 8 }));
    });
    const promise = drainer.drain();
    const state = drainer.state();
    assert.equal(state.kind === 'draining' && state.phase, 'wait');
    assert.equal(state.kind === 'draining' && state.deadlineMs, first.deadlineMs);
    assert.equal((await promise).connectionsAtStart, 8);
    assert.deepEqual(envoy.calls, []);
    assert.ok(passedMs() >= 4_000 && passedMs() < 4_200);
    assert.equal(drainer.current(), undefined);
  });

  it('takes over when the leader dies: from its phase, with its deadline', async () => {
    const base = join(makeTempFolder(), 'drain');
    const dead = openLedger({ base, self: deadIdentity, log: createFakeLog().log });
    dead.claim(
      makeRecord(1_000_000 - 50_000, {
        leader: deadIdentity,
        phase: 'close',
        connectionsAtStart: 8,
        startedAt: '2026-02-02T00:00:00.000Z',
      }),
      1_000_000,
    );
    const { drainer, envoy, passedMs, record } = setUp({ base });
    const result = await drainer.drain();
    assert.equal(result.outcome, 'timeout');
    assert.equal(result.connectionsAtStart, 8);
    assert.equal(result.startedAt, '2026-02-02T00:00:00.000Z');
    assert.equal(result.durationMs, 60_000);
    assert.equal(passedMs(), 10_000);
    assert.ok(!envoy.calls.includes('fail'));
    assert.ok(envoy.calls.includes('close'));
    assert.deepEqual(record()['leader'], ownIdentity());
  });

  it('looks at Envoy again where the leader died between the last event and the result', async () => {
    for (const open of [0, 3]) {
      const base = join(makeTempFolder(), 'drain');
      const dead = openLedger({ base, self: deadIdentity, log: createFakeLog().log });
      dead.claim(
        makeRecord(1_000_000 - 30_000, { leader: deadIdentity, phase: 'finish' }),
        1_000_000,
      );
      const { drainer } = setUp({ base, envoy: createFakeEnvoy(open) });
      const { outcome, connectionsLeft } = await drainer.drain();
      assert.equal(outcome, open === 0 ? 'drained' : 'timeout');
      assert.equal(connectionsLeft, open);
    }
  });

  it('steps down for a process that has taken over and runs, and gives its result', async () => {
    const child = spawn('sleep', ['60'], { stdio: 'ignore' });
    children.push(child);
    await once(child, 'spawn');
    const leader = identify(child.pid ?? 0) ?? assert.fail();
    const { drainer, clock, envoy, startMs, base, record } = setUp();
    let calls = 0;
    clock.at(startMs + 2_000, () => {
      const taken = { ...record(), leader, term: 2, version: 1 };
      writeFileSync(`${base}-1-2.json`, JSON.stringify(taken));
    });
    clock.at(startMs + 3_000, () => {
      calls = envoy.calls.length;
      assert.equal(drainer.current(), undefined);
    });
    const result = makeResult({ outcome: 'timeout', connectionsLeft: 9 });
    clock.at(startMs + 15_000, () => {
      writeFileSync(`${base}-1.result.json`, JSON.stringify({ ...result, startedAtMs: startMs }));
    });
    assert.deepEqual(await drainer.drain(), result);
    assert.equal(envoy.calls.length, calls);
    assert.ok(!envoy.calls.includes('close'), 'the other one closes the listeners');
    assert.ok(clock.nowMs() < startMs + 15_200);
  });

  it('joins a later drain of the same Envoys, which another process has begun', async () => {
    const child = spawn('sleep', ['60'], { stdio: 'ignore' });
    children.push(child);
    await once(child, 'spawn');
    const leader = identify(child.pid ?? 0) ?? assert.fail();
    const { drainer, clock, startMs, base } = setUp();
    const theirs = openLedger({
      base,
      self: leader,
      log: createFakeLog().log,
      covers: () => false,
    });
    const later = makeRecord(startMs + 12_000, { leader });
    clock.at(startMs + 12_000, () => {
      theirs.claim(later, clock.nowMs());
    });
    clock.at(startMs + 20_000, () => {
      theirs.finish(later, makeResult({ connectionsAtStart: 8 }));
    });
    assert.equal((await drainer.drain()).connectionsAtStart, 8);
  });

  it('drains where no record can be written', async () => {
    const { drainer, fakeLog, envoy } = setUp({
      base: '/proc/nowhere/drain',
      envoy: createFakeEnvoy(0),
    });
    assert.equal((await drainer.drain()).outcome, 'drained');
    assert.ok(envoy.calls.includes('close'));
    assert.equal(fakeLog.of('warn').length, 1);
  });

  it('records a drain late that could not be recorded, once', async () => {
    const parent = join(makeTempFolder(), 'parent');
    const { drainer, base, record } = setUp({
      base: join(parent, 'drains', 'host'),
      envoy: createFakeEnvoy(0),
    });
    const result = await drainer.drain();
    drainer.recordLate();
    assert.equal(record().result, undefined);
    mkdirSync(parent);
    for (let time = 0; time < 2; time += 1) drainer.recordLate();
    assert.deepEqual(record().result, result);
    assert.equal(readAll(base).length, 1);
  });
});

describe('createDrainer resume', () => {
  it('leaves the failed health check of a drain that has begun since the cancelled one', async () => {
    const envoy = createFakeEnvoy(3);
    const base = join(makeTempFolder(), 'drain');
    const ledger = openLedger({ base, log: createFakeLog().log });
    let hasLater = false;
    const { admin } = envoy;
    envoy.admin = { ...admin, state: async () => (hasLater ? 'DRAINING' : admin.state()) };
    const { drainer } = setUp({
      envoy,
      config: { checkDelayMs: 60_000 },
      ledger: {
        ...ledger,
        hasLater: () => hasLater,
        finish: (record, result) => {
          hasLater = true;
          return ledger.finish(record, result);
        },
      },
    });
    void drainer.drain();
    assert.equal((await drainer.resume()).kind, 'resumed');
    assert.equal(envoy.calls.filter((call) => call === 'pass').length, 1);
  });
});
