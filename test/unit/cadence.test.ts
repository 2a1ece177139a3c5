import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createCadence } from '../../src/drain/cadence.js';

const limits = { checkIntervalMs: 5_000, checkIntervalMinMs: 100 };

function cadenceAfter(...costsMs: number[]) {
  const cadence = createCadence(limits);
  for (const costMs of costsMs) cadence.noteCost(costMs);
  return cadence;
}

describe('createCadence', () => {
  it('polls at check-interval-min near the end while polls are cheap', () => {
    for (const left of [0, 1, 50, 999]) assert.equal(cadenceAfter(0.4).nextDelayMs(left), 100);
  });

  it('starts with check-interval-min before any poll was measured', () => {
    assert.equal(createCadence(limits).nextDelayMs(1), 100);
  });

  for (const costMs of [3, 10, 40, 90]) {
    it(`keeps Envoy’s main thread below 2 % busy when a poll takes ${costMs} ms`, () => {
      const delayMs = cadenceAfter(costMs, costMs, costMs).nextDelayMs(1);
      assert.ok(costMs / (costMs + delayMs) <= 0.02, `${delayMs} ms`);
      assert.ok(costMs / (costMs + delayMs) > 0.018, `${delayMs} ms is slower than it must be`);
    });
  }

  it('never waits longer than check-interval, however expensive polls are or much is left', () => {
    assert.equal(cadenceAfter(4_500).nextDelayMs(1), 5_000);
    assert.equal(cadenceAfter(0.4).nextDelayMs(10_000_000), 5_000);
    assert.equal(cadenceAfter(4_500).nextDelayMs(10_000_000), 5_000);
  });

  it('polls more rarely the more thousands of connections are left', () => {
    const cadence = cadenceAfter(0.4);
    const delays = [1_000, 2_000, 10_000, 40_000].map((left) => cadence.nextDelayMs(left));
    assert.deepEqual(delays, [100, 200, 1_000, 4_000]);
  });

  it('does not slow down for one reply that queued behind someone’s scrape', () => {
    assert.equal(cadenceAfter(0.4, 0.4, 4_200).nextDelayMs(1), 100);
    assert.equal(cadenceAfter(0.4, 4_200, 0.4, 0.4, 4_200).nextDelayMs(1), 100);
  });

  it('takes the cheapest of the last five replies for what a poll costs', () => {
    assert.equal(cadenceAfter(40, 20, 30, 90, 60).nextDelayMs(1), 1_000);
    assert.equal(cadenceAfter(0.4, 40, 40, 40, 40).nextDelayMs(1), 100);
    assert.equal(cadenceAfter(0.4, 40, 40, 40, 40, 40).nextDelayMs(1), 2_000);
  });

  it('follows when polls become expensive, and forgets when they become cheap again', () => {
    const cadence = cadenceAfter(0.4, 0.4, 0.4, 0.4, 0.4);
    for (let i = 0; i < 5; i += 1) cadence.noteCost(40);
    assert.equal(cadence.nextDelayMs(1), 2_000);
    for (let i = 0; i < 5; i += 1) cadence.noteCost(0.4);
    assert.equal(cadence.nextDelayMs(1), 100);
  });

  it('waits check-interval where both limits are the same', () => {
    const cadence = createCadence({ checkIntervalMs: 1_000, checkIntervalMinMs: 1_000 });
    assert.equal(cadence.nextDelayMs(0), 1_000);
  });

  it('waits a positive time even below the threshold', () => {
    assert.equal(cadenceAfter(0.4).nextDelayMs(-20), 100);
  });

  it('keeps drains apart', () => {
    cadenceAfter(90, 90, 90);
    assert.equal(cadenceAfter(0.4).nextDelayMs(1), 100);
  });
});
