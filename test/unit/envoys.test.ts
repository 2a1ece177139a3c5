import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createEnvoys, type Envoys } from '../../src/drain/envoys.js';
import {
  adminError,
  createFakeClock,
  createFakeEnvoy,
  createFakeLog,
  deadIdentity,
  type FakeEnvoy,
  setOpen,
  targetOf,
} from './fakes.js';

function setUp(
  fakes: readonly FakeEnvoy[],
  rule: { drainUntil?: 'connections' | 'requests'; ignoreListeners?: string[] } = {},
) {
  const clock = createFakeClock();
  const fakeLog = createFakeLog();
  const envoys: Envoys = createEnvoys({
    targets: fakes.map((envoy, index) => targetOf(envoy, `generation ${index + 1}`)),
    rule: { drainUntil: 'connections', ignoreListeners: [], ...rule },
    deadlineMs: clock.nowMs() + 60_000,
    clock,
    log: fakeLog.log,
  });
  const fail = () => envoys.tellAll('fail', (admin, signal) => admin.failHealthCheck(signal));
  return { clock, fakeLog, envoys, fail };
}

/** As an Envoy whose stats_matcher hides gauges that begin so. */
function hide(envoy: FakeEnvoy, ...prefixes: string[]): void {
  for (const name of Object.keys(envoy.gauges)) {
    if (prefixes.some((prefix) => name.startsWith(prefix))) delete envoy.gauges[name];
  }
}

describe('createEnvoys openFiles', () => {
  const openFilesOf = (...targets: readonly [FakeEnvoy, (() => number | undefined)?][]) =>
    createEnvoys({
      targets: targets.map(([envoy, openFiles]) => ({
        ...targetOf(envoy),
        ...(openFiles && { openFiles }),
      })),
      rule: { drainUntil: 'connections', ignoreListeners: [] },
      deadlineMs: Infinity,
      clock: createFakeClock(),
      log: createFakeLog().log,
    }).openFiles();

  it('adds up those of all Envoys', () => {
    const [a, b] = [createFakeEnvoy(), createFakeEnvoy()];
    assert.equal(openFilesOf([a, () => 30], [b, () => 12]), 42);
  });

  it('has none of an Envoy that is gone: the other one is seen all the same', () => {
    const [a, b] = [createFakeEnvoy(), createFakeEnvoy()];
    a.die();
    assert.equal(openFilesOf([a, () => undefined], [b, () => 12]), 12);
  });

  it('is undefined where those of an Envoy that lives can not be seen', () => {
    const [a, b] = [createFakeEnvoy(), createFakeEnvoy()];
    assert.equal(openFilesOf([a, () => undefined], [b, () => 12]), undefined);
    assert.equal(openFilesOf([a], [b, () => 12]), undefined);
  });
});

describe('createEnvoys sample', () => {
  it('counts what one Envoy has open', async () => {
    const { envoys } = setUp([createFakeEnvoy(5)]);
    const sample = await envoys.sample();
    assert.deepEqual(
      { ...sample },
      { kind: 'known', open: 5, busy: 5, socketless: 0, tookMs: 0.4 },
    );
    assert.equal(envoys.lastError(), undefined);
  });

  it('adds up several, and takes the time of the slowest', async () => {
    const [a, b] = [createFakeEnvoy(5), createFakeEnvoy(2)];
    b.tookMs = 40;
    const sample = await setUp([a, b]).envoys.sample();
    assert.deepEqual({ ...sample }, { kind: 'known', open: 7, busy: 7, socketless: 0, tookMs: 40 });
  });

  it('tells which have no socket of their own: HTTP/3, and UDP sessions', async () => {
    const envoy = createFakeEnvoy();
    setOpen(envoy, 4);
    envoy.gauges['http.web.downstream_cx_http3_active'] = 3;
    envoy.gauges['udp.dns.downstream_sess_active'] = 2;
    const sample = await setUp([envoy]).envoys.sample();
    assert.ok(sample.kind === 'known');
    assert.deepEqual([sample.open, sample.socketless], [6, 5]);
  });

  it('tells idle connections from busy ones by drain-until requests', async () => {
    const envoy = createFakeEnvoy();
    setOpen(envoy, 9, 2);
    const sample = await setUp([envoy], { drainUntil: 'requests' }).envoys.sample();
    assert.equal(sample.kind === 'known' && sample.open, 9);
    assert.equal(sample.kind === 'known' && sample.busy, 2);
  });

  it('leaves out ignored listeners', async () => {
    const envoy = createFakeEnvoy(5);
    envoy.gauges['listener.metrics.downstream_cx_active'] = 3;
    const { envoys } = setUp([envoy], { ignoreListeners: ['w*'] });
    const sample = await envoys.sample();
    assert.equal(sample.kind === 'known' && sample.open, 3);
  });

  it('warns once of a gauge below zero and counts it as 0', async () => {
    const envoy = createFakeEnvoy(5);
    envoy.gauges['listener.odd.downstream_cx_active'] = -2;
    const { envoys, fakeLog } = setUp([envoy]);
    for (let i = 0; i < 3; i += 1) {
      const sample = await envoys.sample();
      assert.equal(sample.kind === 'known' && sample.open, 5);
    }
    assert.equal(fakeLog.of('warn').length, 1);
    assert.match(fakeLog.of('warn')[0] ?? '', /listener\.odd\.downstream_cx_active is below zero/);
  });

  it('is unknown with the reason as long as one Envoy can’t be asked', async () => {
    const [a, b] = [createFakeEnvoy(5), createFakeEnvoy(2)];
    b.statsFault = adminError('admin-timeout');
    const { envoys } = setUp([a, b]);
    assert.deepEqual(await envoys.sample(), { kind: 'unknown', reason: 'fake admin-timeout' });
    assert.equal(envoys.lastError(), 'fake admin-timeout');
    b.statsFault = undefined;
    assert.equal((await envoys.sample()).kind, 'known');
  });

  it('leaves out an Envoy whose process has ended', async () => {
    const [a, b] = [createFakeEnvoy(5), createFakeEnvoy(2)];
    const { envoys } = setUp([a, b]);
    a.die();
    assert.equal(envoys.allGone(), false);
    const sample = await envoys.sample();
    assert.equal(sample.kind === 'known' && sample.open, 2);
    b.die();
    assert.deepEqual(await envoys.sample(), { kind: 'gone' });
    assert.equal(envoys.allGone(), true);
  });

  it('is gone where the process ends between the question and the answer', async () => {
    const envoy = createFakeEnvoy(5);
    const { envoys } = setUp([envoy]);
    const { stats } = envoy.admin;
    envoy.admin.stats = (query) => {
      envoy.die();
      return stats(query);
    };
    assert.deepEqual(await envoys.sample(), { kind: 'gone' });
  });

  it('is gone without asking where no process was there to begin with', async () => {
    const envoy = createFakeEnvoy(5);
    envoy.process = { ...deadIdentity };
    const { envoys } = setUp([envoy]);
    assert.equal(envoys.allGone(), true);
    assert.deepEqual(await envoys.sample(), { kind: 'gone' });
    assert.deepEqual(envoy.calls, []);
  });
});

describe('createEnvoys sample with hidden gauges', () => {
  it('falls back to http gauges where the process is not known, and says so once', async () => {
    const envoy = createFakeEnvoy(4, { foreign: true });
    hide(envoy, 'listener.');
    const { envoys, fakeLog } = setUp([envoy]);
    for (let i = 0; i < 3; i += 1) {
      const sample = await envoys.sample();
      assert.equal(sample.kind === 'known' && sample.open, 4);
    }
    assert.equal(fakeLog.of('warn').length, 1);
    assert.match(fakeLog.of('warn')[0] ?? '', /generation 1 shows no listener gauges/);
  });

  it('counts UDP sessions beside http gauges', async () => {
    const envoy = createFakeEnvoy(0, { foreign: true });
    hide(envoy, 'listener.');
    envoy.gauges['udp.dns.downstream_sess_active'] = 4;
    const sample = await setUp([envoy]).envoys.sample();
    assert.equal(sample.kind === 'known' && sample.open, 4);
  });

  it('is unknown where the process is not known and there are TCP proxies, which have no other gauge', async () => {
    const envoy = createFakeEnvoy(4, { foreign: true });
    hide(envoy, 'listener.');
    envoy.counters['tcp.ingress.downstream_cx_total'] = 0;
    const sample = await setUp([envoy]).envoys.sample();
    assert.match(
      sample.kind === 'unknown' ? sample.reason : '',
      /its TCP proxies have no other gauge/,
    );
  });

  it('counts the sockets of the process, whether http gauges are hidden too or not', async () => {
    const envoy = createFakeEnvoy(4);
    hide(envoy, 'listener.', 'http.');
    const { envoys, fakeLog } = setUp([envoy]);
    const sample = await envoys.sample();
    assert.equal(sample.kind === 'known' && sample.open, 0);
    assert.ok(envoy.calls.includes('ports'));
    assert.match(fakeLog.of('warn')[0] ?? '', /\/proc/);
  });

  it('is unknown, not 0, where not even the sockets can be read', async () => {
    const foreign = createFakeEnvoy(4, { foreign: true });
    hide(foreign, 'listener.', 'http.');
    const { envoys } = setUp([foreign]);
    const sample = await envoys.sample();
    assert.equal(sample.kind, 'unknown');
    assert.match(sample.kind === 'unknown' ? sample.reason : '', /stats_matcher/);
  });

  it('is unknown, not 0, for an empty reply of a foreign Envoy', async () => {
    const foreign = createFakeEnvoy(0, { foreign: true });
    foreign.gauges = {};
    assert.equal((await setUp([foreign]).envoys.sample()).kind, 'unknown');
  });

  it('takes admin’s own listener alone for an Envoy that was never touched', async () => {
    const envoy = createFakeEnvoy();
    envoy.gauges = { 'listener.admin.downstream_cx_active': 1 };
    envoy.admin.listeners = async () => [];
    const { envoys, fakeLog } = setUp([envoy]);
    const sample = await envoys.sample();
    assert.equal(sample.kind === 'known' && sample.open, 0);
    assert.deepEqual(fakeLog.entries, []);
  });
});

describe('createEnvoys tellAll', () => {
  it('tells each Envoy once when all goes well', async () => {
    const fakes = [createFakeEnvoy(), createFakeEnvoy()];
    const { fail, clock, fakeLog } = setUp(fakes);
    await fail();
    for (const { calls } of fakes) assert.deepEqual(calls, ['fail']);
    assert.deepEqual(clock.sleeps, []);
    assert.deepEqual(fakeLog.entries, []);
  });

  it('tries again with back-off until it is obeyed, and warns', async () => {
    const envoy = createFakeEnvoy();
    envoy.failFault = adminError('admin-failed');
    const { fail, clock, fakeLog } = setUp([envoy]);
    clock.at(clock.nowMs() + 10_000, () => {
      envoy.failFault = undefined;
    });
    await fail();
    const [first = 0, second = 0, third = 0] = clock.sleeps;
    assert.ok(first < second && second < third, String(clock.sleeps));
    assert.ok(Math.max(...clock.sleeps) <= 2_000);
    assert.equal(envoy.calls.length, clock.sleeps.length + 1);
    assert.equal(fakeLog.of('warn').length, 1);
    assert.match(fakeLog.of('warn')[0] ?? '', /could not be told to fail.*fake admin-failed/);
  });

  it('gives up at the deadline, not later', async () => {
    const envoy = createFakeEnvoy();
    envoy.fault = adminError('admin-timeout');
    const { fail, clock, envoys } = setUp([envoy]);
    const startMs = clock.nowMs();
    await fail();
    assert.equal(clock.nowMs(), startMs + 60_000);
    assert.equal(envoys.lastError(), 'fake admin-timeout');
  });

  it('does not ask again what is forbidden, and says so as an error', async () => {
    const envoy = createFakeEnvoy();
    envoy.failFault = adminError('admin-refused');
    const { fail, clock, fakeLog } = setUp([envoy]);
    await fail();
    assert.deepEqual(envoy.calls, ['fail']);
    assert.deepEqual(clock.sleeps, []);
    assert.match(fakeLog.of('error')[0] ?? '', /generation 1 refused to fail/);
  });

  it('stops when the Envoy is gone', async () => {
    const envoy = createFakeEnvoy();
    envoy.failFault = adminError('admin-failed');
    const { fail, clock, envoys } = setUp([envoy]);
    const startMs = clock.nowMs();
    clock.at(startMs + 1_000, () => envoy.die());
    await fail();
    assert.ok(clock.nowMs() - startMs <= 3_000);
    assert.equal(envoys.allGone(), true);
  });

  it('does not let one deaf Envoy keep another from being told', async () => {
    const [deaf, good] = [createFakeEnvoy(), createFakeEnvoy()];
    deaf.fault = adminError('admin-timeout');
    await setUp([deaf, good]).fail();
    assert.deepEqual(good.calls, ['fail']);
    assert.ok(deaf.calls.length > 1);
  });

  it('survives a client that throws something else', async () => {
    const envoy = createFakeEnvoy();
    envoy.failFault = new TypeError('a fault of ours');
    const { fail, clock, envoys } = setUp([envoy]);
    clock.at(clock.nowMs() + 500, () => {
      envoy.failFault = undefined;
    });
    await fail();
    assert.equal(envoys.lastError(), 'a fault of ours');
  });
});

describe('createEnvoys with an Envoy whose process is not known', () => {
  it('counts it as gone after refusals that last', async () => {
    const envoy = createFakeEnvoy(5, { foreign: true });
    envoy.fault = adminError('admin-gone');
    const { envoys, clock } = setUp([envoy]);
    for (let i = 0; i < 5; i += 1) assert.equal((await envoys.sample()).kind, 'unknown');
    clock.advance(2_000);
    assert.deepEqual(await envoys.sample(), { kind: 'gone' });
    assert.equal(envoys.allGone(), true);
  });

  it('does not count a single refusal after a long time as gone', async () => {
    const envoy = createFakeEnvoy(5, { foreign: true });
    const { envoys, clock } = setUp([envoy]);
    for (let i = 0; i < 4; i += 1) {
      envoy.fault = adminError('admin-gone');
      assert.equal((await envoys.sample()).kind, 'unknown');
      clock.advance(5_000);
      envoy.fault = undefined;
      assert.equal((await envoys.sample()).kind, 'known');
    }
    assert.equal(envoys.allGone(), false);
  });

  for (const code of ['admin-timeout', 'admin-failed', 'admin-refused', 'admin-payload'] as const) {
    it(`never takes ${code} for gone: it may only hang`, async () => {
      const envoy = createFakeEnvoy(5, { foreign: true });
      envoy.fault = adminError(code);
      const { envoys, clock } = setUp([envoy]);
      for (let i = 0; i < 10; i += 1) {
        assert.equal((await envoys.sample()).kind, 'unknown');
        clock.advance(3_000);
      }
      assert.equal(envoys.allGone(), false);
    });
  }

  it('does not let refusals decide where the process is known', async () => {
    const envoy = createFakeEnvoy(5);
    envoy.fault = adminError('admin-gone');
    const { envoys, clock } = setUp([envoy]);
    for (let i = 0; i < 10; i += 1) {
      assert.equal((await envoys.sample()).kind, 'unknown');
      clock.advance(3_000);
    }
    assert.equal(envoys.allGone(), false);
  });
});

describe('createEnvoys calls', () => {
  it('may take as long as the drain, and at its deadline still half a second', async (t) => {
    const limitsMs: number[] = [];
    t.mock.method(AbortSignal, 'timeout', (ms: number) => {
      limitsMs.push(ms);
      return new AbortController().signal;
    });
    const { envoys, clock } = setUp([createFakeEnvoy(5)]);
    for (const passedMs of [0, 59_000, 900, 100, 5_000]) {
      clock.advance(passedMs);
      assert.equal((await envoys.sample()).kind, 'known');
    }
    assert.deepEqual(limitsMs, [60_000, 1_000, 500, 500, 500]);
  });
});

describe('createEnvoys accepted', () => {
  it('adds up all Envoys without ignored listeners', async () => {
    const [a, b] = [createFakeEnvoy(), createFakeEnvoy()];
    b.counters['listener.metrics.downstream_cx_total'] = 100;
    b.tookMs = 7;
    const { envoys } = setUp([a, b], { ignoreListeners: ['metrics'] });
    assert.deepEqual(await envoys.accepted(), { total: 20, tookMs: 7 });
  });

  it('is undefined as long as one can’t be asked', async () => {
    const [a, b] = [createFakeEnvoy(), createFakeEnvoy()];
    a.statsFault = adminError('admin-timeout');
    const { envoys } = setUp([a, b]);
    assert.equal(await envoys.accepted(), undefined);
    a.statsFault = undefined;
    assert.equal((await envoys.accepted())?.total, 20);
  });
});
