import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createBudget } from '../../src/drain/budget.js';
import { createPacing, type Pacing } from '../../src/drain/pacing.js';
import { createCloseSign } from '../../src/drain/sign.js';
import { createFakeClock, type FakeClock } from './fakes.js';

describe('createCloseSign', () => {
  const signOf = (files: (number | undefined)[]) => {
    const sign = createCloseSign(() => files.shift());
    sign.begin();
    return sign;
  };

  it('comes once as many files have been closed as connections are to go', () => {
    const sign = signOf([50, 49, 48, 47]);
    sign.expect(3);
    assert.deepEqual([sign.hasCome(), sign.hasCome(), sign.hasCome()], [false, false, true]);
  });

  it('adds up decreases, though others are opened in between', () => {
    const sign = signOf([50, 48, 60, 59]);
    sign.expect(3);
    assert.deepEqual([sign.hasCome(), sign.hasCome(), sign.hasCome()], [false, false, true]);
  });

  it('counts what was closed while Envoy was asked', () => {
    const sign = signOf([50, 49]);
    sign.expect(1);
    assert.equal(sign.hasCome(), true);
  });

  it('comes when Envoy can not be seen any more', () => {
    const sign = signOf([50, undefined]);
    assert.equal(sign.expect(10), true);
    assert.equal(sign.hasCome(), true);
  });

  it('says so where nothing can be seen', () => {
    assert.equal(signOf([undefined, undefined]).expect(1), false);
  });

  it('works again after a moment in which an ending Envoy hid the others', () => {
    const sign = signOf([undefined, 50, 50, 49]);
    assert.equal(sign.expect(1), true);
    assert.deepEqual([sign.hasCome(), sign.hasCome()], [false, true]);
  });

  it('begins again', () => {
    const sign = signOf([50, 40, 40, 40]);
    sign.expect(20);
    assert.equal(sign.hasCome(), false);
    sign.begin();
    sign.expect(1);
    assert.equal(sign.hasCome(), false);
  });
});

describe('createBudget', () => {
  it('lets polls take 2 % of the time, after what was saved up is spent', () => {
    let nowMs = 1_000;
    const budget = createBudget(() => nowMs);
    let spentMs = 0;
    for (; nowMs < 61_000; nowMs += 10) {
      if (budget.waitMs() > 0) continue;
      budget.spend(44);
      spentMs += 44;
    }
    assert.ok(spentMs > 0.02 * 60_000, `${spentMs} ms`);
    assert.ok(spentMs <= 0.02 * 60_000 + 200 + 44, `${spentMs} ms`);
  });

  it('says how long to wait', () => {
    let nowMs = 0;
    const budget = createBudget(() => nowMs);
    budget.spend(250);
    assert.equal(budget.waitMs(), 2_500);
    nowMs = 2_501;
    assert.equal(budget.waitMs(), 0);
  });

  it('leaves what is reserved', () => {
    const budget = createBudget(() => 0);
    assert.equal(budget.waitMs(88), 0);
    budget.spend(120);
    assert.deepEqual([budget.waitMs(88), budget.waitMs()], [400, 0]);
    assert.equal(budget.waitMs(4_000), 1_000, 'no more than half of what can be saved');
  });

  it('saves no more than a few expensive polls, however long nothing is asked', () => {
    let nowMs = 0;
    const budget = createBudget(() => nowMs);
    nowMs = 3_600_000;
    assert.equal(budget.waitMs(), 0);
    budget.spend(210);
    assert.ok(budget.waitMs() > 0);
  });
});

describe('createPacing', () => {
  const config = { checkIntervalMs: 5_000, checkIntervalMinMs: 100 };

  /** A pacing that has polled once, 10 s after it was made; `files` is told the time since then. */
  function setUp(
    files: (sinceMs: number) => number | undefined,
    poll = { tookMs: 0.4, open: 1, socketless: 0 },
  ): { pacing: Pacing; clock: FakeClock; restMs(toGo: number): Promise<number> } {
    const clock = createFakeClock();
    const startMs = clock.nowMs() + 10_000;
    const budget = createBudget(clock.nowMs);
    const pacing = createPacing({
      config,
      clock,
      budget,
      openFiles: () => files(clock.nowMs() - startMs),
      rest: (ms) => (ms > 0 ? clock.sleep(ms) : Promise.resolve()),
      isOver: () => false,
      timeLeftMs: () => 60_000,
    });
    clock.advance(10_000);
    const ask = (): void => {
      pacing.begin();
      budget.spend(poll.tookMs);
      pacing.note(poll);
    };
    ask();
    // So often the same that the clock alone would let it rest for as long as it may.
    for (let round = 0; round < 8; round += 1) ask();
    return {
      pacing,
      clock,
      restMs: async (toGo) => {
        const before = clock.nowMs();
        await pacing.restUntilDue(toGo);
        return clock.nowMs() - before;
      },
    };
  }

  it('rests for check-interval while nothing happens', async () => {
    const { restMs } = setUp(() => 50);
    assert.equal(await restMs(1), 5_000);
  });

  it('ends within 25 ms of the last close', async () => {
    const { restMs } = setUp((sinceMs) => (sinceMs < 1_000 ? 50 : 49));
    const tookMs = await restMs(1);
    assert.ok(tookMs >= 1_000 && tookMs <= 1_025, `${tookMs} ms`);
  });

  it('does not end for fewer closes than are to go', async () => {
    const { restMs } = setUp((sinceMs) => (sinceMs < 1_000 ? 50 : 49));
    assert.equal(await restMs(2), 5_000);
  });

  it('keeps check-interval-min between two polls', async () => {
    const { restMs } = setUp((sinceMs) => (sinceMs <= 0 ? 50 : 49));
    assert.equal(await restMs(1), 100);
  });

  it('lets expensive polls wait until they are paid for', async () => {
    const { restMs } = setUp((sinceMs) => (sinceMs <= 0 ? 50 : 49), {
      tookMs: 44,
      open: 1,
      socketless: 0,
    });
    assert.ok((await restMs(1)) > 1_000);
  });

  it('asks by the clock where files can not be seen, and of connections without a socket', async () => {
    assert.equal(await setUp(() => undefined).restMs(1), 100);
    const quic = { tookMs: 0.4, open: 2, socketless: 1 };
    assert.equal(await setUp(() => 50, quic).restMs(2), 100);
  });

  it('asks again soon after the count has changed, as a gauge may lag, and then ever more rarely', async () => {
    const { pacing, restMs } = setUp(() => 50);
    const rests: number[] = [];
    for (const open of [7, 7, 7, 7, 7, 7, 7, 7]) {
      pacing.begin();
      pacing.note({ tookMs: 0.4, open, socketless: 0 });
      rests.push(await restMs(7));
    }
    assert.deepEqual(rests, [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
  });
});
