import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { checkTimers, type Timers } from '../../src/cli/doctor/timers.js';

const config: Timers['config'] = {
  checkDelayMs: 60_000,
  drainTimeoutMs: 300_000,
  envoyDrainTimeMs: 600_000,
  adminAddress: undefined,
};

/** Levels in the order of the checks, and every message and remedy. */
function look(more: Partial<Timers> & { set?: Partial<Timers['config']> }) {
  const { set, ...timers } = more;
  const findings = checkTimers({
    killTimeoutMs: 330_000,
    gracePeriodMs: undefined,
    ...timers,
    config: { ...config, ...set },
  });
  const text = findings.map(({ message, remedy }) => `${message} ${remedy ?? ''}`).join('\n');
  return { levels: findings.map(({ level }) => level), text };
}

describe('checkTimers', () => {
  it('finds nothing wrong with the defaults', () => {
    assert.deepEqual(look({}).levels, ['ok', 'ok']);
  });

  it('leaves kill_timeout out without pm2', () => {
    assert.deepEqual(look({ killTimeoutMs: undefined }).levels, ['ok']);
  });

  it('names the kill_timeout that a drain needs', () => {
    const { levels, text } = look({ killTimeoutMs: 1_600 });
    assert.equal(levels[0], 'problem');
    assert.match(text, /1\.6s after its signal.*kill_timeout to 330000/s);
  });

  for (const [gracePeriodMs, level, words] of [
    [330_000, 'ok', /covers/],
    [329_999, 'warning', /at least 5m30s/],
    [120_000, 'warning', /drain-timeout at most 1m30s$/m],
    [80_000, 'warning', /at most 50s, with check-delay below that/],
    [60_000, 'problem', /no connection is waited for/],
    [1_000, 'problem', /at most 1s, with check-delay below that/],
  ] as const) {
    it(`says ${level} to a grace period of ${gracePeriodMs} ms`, () => {
      const { levels, text } = look({ gracePeriodMs });
      assert.equal(levels[1], level);
      assert.match(text, words);
    });
  }

  for (const [envoyDrainTimeMs, level] of [
    [600_000, 'ok'],
    [450_000, 'ok'],
    [449_000, 'warning'],
    [16_000, 'warning'],
    [15_000, 'ok'],
  ] as const) {
    it(`says ${level} to an envoy-drain-time of ${envoyDrainTimeMs} ms: websockets`, () => {
      const { levels, text } = look({ set: { envoyDrainTimeMs } });
      assert.equal(levels.at(-1), level);
      if (level === 'warning') assert.match(text, /active websockets.*at least 7m30s/s);
    });
  }
});
