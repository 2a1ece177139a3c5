import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  afterDrainMs,
  longestDrainMs,
  misfitOf,
  neededGraceMs,
} from '../../src/config/grace-period.js';
import { loadConfig } from '../../src/config/load.js';
import { describeTimeline, timelineOf } from '../../src/config/timeline.js';

describe('a grace period', () => {
  for (const [graceMs, drainMs] of [
    [5_000, 3_750],
    [10_000, 7_500],
    [30_000, 22_500],
    [120_000, 90_000],
    [330_000, 300_000],
    [600_000, 570_000],
  ] as const) {
    it(`of ${graceMs} ms leaves a drain ${drainMs} ms`, () => {
      assert.equal(longestDrainMs(graceMs), drainMs);
      assert.equal(afterDrainMs(graceMs) + drainMs, graceMs);
      assert.equal(neededGraceMs(drainMs), graceMs);
      assert.equal(misfitOf(graceMs, drainMs), undefined);
      assert.match(misfitOf(graceMs, drainMs + 1) ?? '', /for what follows it are .*: leave/);
    });
  }
});

describe('grace-period as a setting', () => {
  const load = (env: Record<string, string>) => loadConfig({ env, cwd: '/nowhere' });
  const refusal = (env: Record<string, string>): string => {
    try {
      load(env);
    } catch (error) {
      return String(error);
    }
    return 'taken';
  };

  for (const [grace, delay, timeout] of [
    ['5s', '1.25s', '3.75s'],
    ['10s', '2.5s', '7.5s'],
    ['2m', '30s', '1m30s'],
    ['10m', '1m', '9m30s'],
  ] as const) {
    it(`gives the times that fit into ${grace}`, () => {
      const { settings } = load({ PM2_ENVOY_GRACE_PERIOD: grace });
      assert.deepEqual(settings['drain-timeout'], { value: timeout, source: 'grace-period' });
      assert.deepEqual(settings['check-delay'], { value: delay, source: 'grace-period' });
    });
  }

  it('leaves alone what is set, and bounds the other', () => {
    const { config } = load({ PM2_ENVOY_GRACE_PERIOD: '2m', PM2_ENVOY_CHECK_DELAY: '45s' });
    assert.deepEqual([config.checkDelayMs, config.drainTimeoutMs], [45_000, 90_000]);
    const other = load({ PM2_ENVOY_GRACE_PERIOD: '2m', PM2_ENVOY_DRAIN_TIMEOUT: '30s' }).config;
    assert.deepEqual([other.checkDelayMs, other.drainTimeoutMs], [10_000, 30_000]);
  });

  it('refuses a drain-timeout that does not fit, with the arithmetic', () => {
    assert.match(
      refusal({ PM2_ENVOY_GRACE_PERIOD: '2m', PM2_ENVOY_DRAIN_TIMEOUT: '5m' }),
      /drain-timeout 5m \(from PM2_ENVOY_DRAIN_TIMEOUT\) does not fit into grace-period 2m \(from PM2_ENVOY_GRACE_PERIOD\): 5m and 30s for what follows it are 5m30s: leave drain-timeout out, or make it at most 1m30s, or grace-period at least 5m30s$/,
    );
  });

  it('refuses a check-delay that does not fit, and says what leaves so little', () => {
    assert.match(
      refusal({ PM2_ENVOY_GRACE_PERIOD: '10s', PM2_ENVOY_CHECK_DELAY: '15s' }),
      /check-delay 15s .* must be below drain-timeout 7\.5s .*, which is what grace-period 10s \(from PM2_ENVOY_GRACE_PERIOD\) leaves$/,
    );
  });

  it('refuses less than a second, and no duration, once', () => {
    assert.match(
      refusal({ PM2_ENVOY_GRACE_PERIOD: '10' }),
      /: grace-period: "10" .*did you mean "10s"\?\)$/,
    );
    assert.match(refusal({ PM2_ENVOY_GRACE_PERIOD: '500ms' }), /must be at least 1s$/);
  });
});

describe('the timeline', () => {
  it('is one line', () => {
    const { config } = loadConfig({ env: { PM2_ENVOY_GRACE_PERIOD: '10s' } });
    assert.equal(
      describeTimeline(timelineOf(config)),
      '0s health fails · 2.5s listeners close · 7.5s cut at the latest (grace-period) · 10s SIGKILL',
    );
  });

  it('names drain-timeout and pm2 where no one has said what the platform does', () => {
    const { config } = loadConfig({ env: { PM2_ENVOY_CHECK_DELAY: '0s' } });
    assert.equal(
      describeTimeline(timelineOf(config)),
      '0s health fails, listeners close · 5m cut at the latest (drain-timeout) · 5m30s SIGKILL by pm2',
    );
  });

  it('has pm2 win with a kill_timeout that is shorter', () => {
    const { config } = loadConfig({ env: { PM2_ENVOY_GRACE_PERIOD: '10m' } });
    const { cutMs, cutBy, killMs, killBy } = timelineOf(config, 40_000);
    assert.deepEqual(
      [cutMs, cutBy, killMs, killBy],
      [30_000, 'kill_timeout', 40_000, 'kill_timeout'],
    );
  });

  it('has drain-timeout win where it is shorter than the grace period leaves', () => {
    const env = { PM2_ENVOY_GRACE_PERIOD: '2m', PM2_ENVOY_DRAIN_TIMEOUT: '30s' };
    const { cutBy, killBy } = timelineOf(loadConfig({ env }).config);
    assert.deepEqual([cutBy, killBy], ['drain-timeout', 'grace-period']);
  });
});
