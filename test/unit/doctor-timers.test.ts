import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { checkTimers, type Timers } from '../../src/cli/doctor/timers.js';

const config: Timers['config'] = {
  checkDelayMs: 60_000,
  drainTimeoutMs: 300_000,
  gracePeriodMs: undefined,
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
    assert.deepEqual(look({}).levels, ['ok', 'ok', 'ok']);
  });

  it('begins with the timeline, and the timer that wins', () => {
    assert.match(
      look({}).text,
      /^0s health fails · 1m listeners close · 5m cut .*\(drain-timeout\)/,
    );
    assert.match(
      look({ killTimeoutMs: 60_000 }).text,
      /^.* 45s cut at the latest \(kill_timeout\)/,
    );
    const set = { checkDelayMs: 15_000, drainTimeoutMs: 90_000, gracePeriodMs: 120_000 };
    assert.match(
      look({ set, killTimeoutMs: 120_000 }).text,
      /^0s health fails · 15s listeners close · 1m30s cut at the latest \(grace-period\) · 2m SIGKILL /,
    );
  });

  it('leaves kill_timeout out without pm2', () => {
    assert.deepEqual(look({ killTimeoutMs: undefined }).levels, ['ok', 'ok']);
  });

  it('names the kill_timeout that a drain needs', () => {
    const { levels, text } = look({ killTimeoutMs: 1_600 });
    assert.equal(levels[1], 'problem');
    assert.match(text, /1\.6s after its signal.*kill_timeout to 330000/s);
  });

  for (const [gracePeriodMs, level, words] of [
    [330_000, 'ok', /covers/],
    [329_999, 'warning', /at least 5m30s/],
    [
      120_000,
      'warning',
      /drain-timeout at most 1m30s; or set grace-period to 2m and leave both out$/m,
    ],
    [80_000, 'warning', /at most 1m, with check-delay below that/],
    [60_000, 'problem', /the drain waits for no connection/],
    [1_000, 'problem', /at most 1s, with check-delay below that/],
  ] as const) {
    it(`says ${level} to a grace period of ${gracePeriodMs} ms`, () => {
      const { levels, text } = look({ gracePeriodMs });
      assert.equal(levels[2], level);
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
