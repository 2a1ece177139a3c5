import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { type EndedDrain, endOfShutdown } from '../../src/drain/ends.js';
import { silentLog } from '../../src/log.js';
import { createDrainTally, type DrainTally } from '../../src/manager/metrics/drain-tally.js';
import { createFakeLog, makeResult, makeTempFolder } from './fakes.js';

const ended = (second: number, result: EndedDrain['result']): EndedDrain =>
  endOfShutdown(`2026-01-01T00:00:0${second}.000Z`, result);

const drained = (second: number): EndedDrain => ended(second, makeResult());

function setUp() {
  const file = join(makeTempFolder(), 'counted.json');
  return {
    file,
    open: () => createDrainTally({ file, drainUntil: 'connections', log: silentLog }),
  };
}

/** The value of the sample with this name and these labels. */
function numberOf(tally: DrainTally, name: string, labels: Record<string, string> = {}): number {
  const wanted = JSON.stringify({ command: 'shutdown', ...labels });
  const found = tally
    .samples()
    .filter((one) => one.name === `pm2_envoy_${name}` && JSON.stringify(one.labels) === wanted);
  assert.equal(found.length, 1, `${name} ${wanted}`);
  return found[0]?.value ?? Number.NaN;
}

const drainsOf = (tally: DrainTally, outcome = 'drained'): number =>
  numberOf(tally, 'drains_total', { outcome });

describe('createDrainTally', () => {
  it('shows every outcome of both commands as 0 from the start', () => {
    const samples = setUp().open().samples();
    const drains = samples.filter(({ name }) => name === 'pm2_envoy_drains_total');
    assert.equal(drains.length, 10);
    assert.ok(samples.every(({ value }) => value === 0));
  });

  it('counts a drain once, however often it is told', () => {
    const tally = setUp().open();
    tally.noteEnd(drained(1));
    tally.noteEnd(drained(1));
    assert.equal(drainsOf(tally), 1);
    tally.noteEnd(drained(2));
    assert.equal(drainsOf(tally), 2);
  });

  it('goes on where an earlier manager has ended, and counts nothing twice', () => {
    const { open } = setUp();
    open().noteEnd(drained(1));
    const next = open();
    assert.equal(drainsOf(next), 1);
    next.noteEnd(drained(1));
    next.noteEnd(drained(2));
    assert.equal(drainsOf(next), 2);
    assert.equal(drainsOf(open()), 2);
  });

  it('counts once where two managers see the same end', () => {
    const { open } = setUp();
    const [staying, next] = [open(), open()];
    staying.noteEnd(drained(1));
    next.noteEnd(drained(1));
    staying.noteEnd(drained(2));
    assert.deepEqual([drainsOf(staying), drainsOf(next), drainsOf(open())], [2, 1, 2]);
  });

  it('sorts durations into buckets', () => {
    const tally = setUp().open();
    for (const [second, durationMs] of [100, 2_500, 4_000_000].entries()) {
      tally.noteEnd(ended(second, makeResult({ durationMs })));
    }
    const bucket = (le: string): number => numberOf(tally, 'drain_duration_seconds_bucket', { le });
    assert.deepEqual(
      ['0.1', '1', '3', '3600', '+Inf'].map(bucket),
      [1, 1, 2, 2, 3],
      'at most the bound, smaller ones included',
    );
    assert.equal(numberOf(tally, 'drain_duration_seconds_sum'), 4_002.6);
    assert.equal(numberOf(tally, 'drain_duration_seconds_count'), 3);
  });

  it('counts connections that were left as cut, but for a drain that was cancelled', () => {
    const tally = setUp().open();
    tally.noteEnd(ended(1, makeResult({ outcome: 'timeout', connectionsLeft: 3 })));
    tally.noteEnd(ended(2, makeResult({ outcome: 'admin-unreachable', connectionsLeft: null })));
    tally.noteEnd(ended(3, makeResult({ outcome: 'cancelled', connectionsLeft: 9 })));
    assert.equal(numberOf(tally, 'connections_cut_total'), 3);
    assert.equal(drainsOf(tally, 'cancelled'), 1);
    assert.equal(numberOf(tally, 'drain_duration_seconds_count'), 2);
  });

  it('counts each failed reload once, across managers', () => {
    const { open } = setUp();
    open().noteFailedReload('2026-01-01T00:00:00.000Z');
    const tally = open();
    tally.noteFailedReload('2026-01-01T00:00:00.000Z');
    tally.noteFailedReload('2026-01-01T00:00:01.000Z');
    const { value } = tally.samples().at(-1) ?? {};
    assert.equal(value, 2);
  });

  it('takes a damaged file for none, and writes it again', () => {
    const { file, open } = setUp();
    for (const text of ['', '{', '[]', '{"ids":7,"counts":"many"}', '{"ids":[null,1]}']) {
      writeFileSync(file, text);
      assert.equal(drainsOf(open()), 0);
    }
    const tally = open();
    tally.noteEnd(drained(1));
    assert.equal(drainsOf(open()), 1);
  });

  it('says once that it can’t write, and counts on', () => {
    const { log, of } = createFakeLog();
    const tally = createDrainTally({
      file: '/does/not/exist/counted.json',
      drainUntil: 'connections',
      log,
    });
    for (const second of [1, 2, 2]) tally.noteEnd(drained(second));
    assert.equal(drainsOf(tally), 2);
    assert.equal(of('warn').length, 1);
  });
});
