import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type DrainSeen, phasesOf, see } from '../../src/cli/view/drain-history.js';
import type { Status } from '../../src/status/status.js';
import { draining, ended, openOn, recorded, statusWith } from './statuses.js';

function seenOf(statuses: readonly Status[]): DrainSeen | undefined {
  return recorded(statuses).reduce<DrainSeen | undefined>(see, undefined);
}

function phases(statuses: readonly Status[]): (string | number | undefined)[][] {
  const seen = seenOf(statuses) ?? assert.fail('no drain was seen');
  return phasesOf(seen, statuses.at(-1)?.outcome ?? null).map(({ phase, state, tookMs }) => [
    phase,
    state,
    tookMs,
  ]);
}

describe('see', () => {
  it('has nothing to tell of an Envoy that no drain runs for', () => {
    assert.equal(seenOf([statusWith()]), undefined);
    assert.equal(seenOf([draining('delay', 500), statusWith()]), undefined);
  });

  it('has nothing to tell of a drain that had ended before anyone looked', () => {
    assert.equal(seenOf([ended('drained')]), undefined);
  });

  it('takes the time that a drain has run from the manager’s own clocks', () => {
    assert.equal(seenOf([draining('wait', 72_000)])?.elapsedMs, 72_000);
  });

  it('knows when the number of open connections last fell', () => {
    const wait = (elapsedMs: number, open: number): Status =>
      draining('wait', elapsedMs, { connections: openOn({ a: open }) });
    assert.equal(seenOf([wait(10_000, 4), wait(20_000, 3), wait(30_000, 3)])?.fellAtMs, 20_000);
  });

  it('begins again with another drain', () => {
    const later = { startedAt: '2026-11-22T20:40:00.000Z', deadline: '2026-11-22T20:45:00.000Z' };
    const seen = seenOf([draining('wait', 9_000), draining('delay', 500, later)]);
    assert.deepEqual(seen?.enteredMs, { 'fail-health': 0, delay: 500 });
  });
});

describe('phasesOf', () => {
  it('says how long each phase took, and how long the current one has', () => {
    const looks = [draining('delay', 100), draining('delay', 5_000), draining('wait', 10_200)];
    assert.deepEqual(phases([...looks, draining('wait', 12_200)]), [
      ['fail-health', 'done', 100],
      ['delay', 'done', 10_100],
      ['close', 'done', 0],
      ['wait', 'now', 2_000],
    ]);
  });

  it('says nothing of phases that were over before anyone looked', () => {
    assert.deepEqual(phases([draining('wait', 60_000), draining('wait', 61_000)]), [
      ['fail-health', 'done', undefined],
      ['delay', 'done', undefined],
      ['close', 'done', undefined],
      ['wait', 'now', undefined],
    ]);
  });

  it('has the phases to come', () => {
    assert.deepEqual(
      phases([draining('delay', 100)]).map(([, state]) => state),
      ['done', 'now', 'next', 'next'],
    );
  });

  it('has all of them done once the drain is', () => {
    assert.deepEqual(phases([draining('wait', 10_000), ended('drained')]).at(-1), [
      'wait',
      'done',
      undefined,
    ]);
    const all = phases([draining('delay', 100), draining('wait', 10_000), ended('drained')]);
    assert.deepEqual(all.at(-1), ['wait', 'done', 62_000]);
  });

  it('stops at the phase in which a drain ended otherwise', () => {
    const looks = [draining('delay', 100), ended('cancelled', { durationMs: 5_000 })];
    assert.deepEqual(phases(looks), [
      ['fail-health', 'done', 100],
      ['delay', 'stopped', 4_900],
    ]);
  });
});
