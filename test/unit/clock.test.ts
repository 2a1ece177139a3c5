import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { systemClock, until } from '../../src/clock.js';
import { createFakeClock } from './fakes.js';

const times = { everyMs: 100, limitMs: 1_000 };

describe('until', () => {
  it('gives what is there immediately, without waiting', async () => {
    const clock = createFakeClock();
    assert.equal(await until(() => 'here', times, clock), 'here');
    assert.deepEqual(clock.sleeps, []);
  });

  it('asks again at the interval until there is something', async () => {
    const clock = createFakeClock();
    const readyAtMs = clock.nowMs() + 250;
    const check = async () => (clock.nowMs() >= readyAtMs ? 'ready' : undefined);
    assert.equal(await until(check, times, clock), 'ready');
    assert.deepEqual(clock.sleeps, [100, 100, 100]);
  });

  it('takes everything but undefined for an answer', async () => {
    for (const answer of [null, false, 0, '']) {
      assert.equal(await until<unknown>(() => answer, times, createFakeClock()), answer);
    }
  });

  it('gives up when the limit is over, after a last look', async () => {
    const clock = createFakeClock();
    const startMs = clock.nowMs();
    const lookedAtMs: number[] = [];
    const check = () => {
      lookedAtMs.push(clock.nowMs() - startMs);
      return undefined;
    };
    assert.equal(await until(check, times, clock), undefined);
    assert.equal(lookedAtMs.length, 11);
    assert.equal(lookedAtMs.at(-1), 1_000);
  });

  it('looks once where there is no time at all', async () => {
    const clock = createFakeClock();
    assert.equal(await until(() => 5, { everyMs: 100, limitMs: 0 }, clock), 5);
    assert.equal(await until(() => undefined, { everyMs: 100, limitMs: 0 }, clock), undefined);
    assert.deepEqual(clock.sleeps, []);
  });

  it('fails as the check fails', async () => {
    const check = () => Promise.reject(new Error('broken'));
    await assert.rejects(until(check, times, createFakeClock()), /broken/);
  });
});

describe('systemClock', () => {
  it('goes on while it sleeps', async () => {
    const startMs = systemClock.nowMs();
    await systemClock.sleep(5);
    assert.ok(systemClock.nowMs() - startMs >= 4);
  });

  it('ends a sleep as soon as its signal aborts', async () => {
    const abort = new AbortController();
    const asleep = systemClock.sleep(600_000, abort.signal);
    abort.abort();
    await asleep;
    await systemClock.sleep(600_000, abort.signal);
  });
});
