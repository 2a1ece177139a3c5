import { formatDuration } from './duration.js';
import { type DrainTimes, killTimeoutMs, longestDrainMs } from './grace-period.js';

/** Which timer ends a drain that its connections don't, and when everything happens; times since its start. */
export interface Timeline {
  /** The listeners close. */
  closeMs: number;
  /** What is still open is cut. */
  cutMs: number;
  cutBy: 'drain-timeout' | 'grace-period' | 'kill_timeout';
  /** SIGKILL, and who sends it: the platform, or pm2. */
  killMs: number;
  killBy: 'grace-period' | 'kill_timeout';
}

/**
 * What will happen when, in a drain that does not end by itself.
 *
 * @param killMs pm2's own limit, where it is not the one that follows from the configuration
 */
export function timelineOf(times: DrainTimes, killMs?: number): Timeline {
  const { checkDelayMs, drainTimeoutMs, gracePeriodMs } = times;
  const pm2Ms = killMs ?? killTimeoutMs(times);
  const isPm2First = gracePeriodMs === undefined || pm2Ms < gracePeriodMs;
  const pm2LimitMs = Math.max(1_000, longestDrainMs(pm2Ms));
  const isFromGrace =
    gracePeriodMs !== undefined && drainTimeoutMs === longestDrainMs(gracePeriodMs);
  const cutMs = Math.min(drainTimeoutMs, pm2LimitMs);
  return {
    closeMs: Math.min(checkDelayMs, cutMs),
    cutMs,
    cutBy:
      pm2LimitMs < drainTimeoutMs ? 'kill_timeout' : isFromGrace ? 'grace-period' : 'drain-timeout',
    killMs: isPm2First ? pm2Ms : gracePeriodMs,
    killBy: isPm2First ? 'kill_timeout' : 'grace-period',
  };
}

/** In one line: `0s health fails · 15s listeners close · 1m30s cut at the latest (grace-period) · 2m SIGKILL`. */
export function describeTimeline({ closeMs, cutMs, cutBy, killMs, killBy }: Timeline): string {
  const at = (ms: number): string => formatDuration(ms);
  const kill = killBy === 'kill_timeout' ? 'SIGKILL by pm2' : 'SIGKILL';
  const begins = closeMs === 0 ? ['0s health fails, listeners close'] : ['0s health fails'];
  const closes = closeMs === 0 ? [] : [`${at(closeMs)} listeners close`];
  return [
    ...begins,
    ...closes,
    `${at(cutMs)} cut at the latest (${cutBy})`,
    `${at(killMs)} ${kill}`,
  ].join(' · ');
}
