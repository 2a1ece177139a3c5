import type { Config } from '../../config/config.js';
import { formatDuration } from '../../config/duration.js';
import {
  afterDrainMs,
  killTimeoutMs,
  longestDrainMs,
  neededGraceMs,
} from '../../config/grace-period.js';
import { describeTimeline, timelineOf } from '../../config/timeline.js';
import { type Finding, ok, problem, warning } from './finding.js';

/** What bounds a drain, from the inside out. */
export interface Timers {
  config: Pick<
    Config,
    'checkDelayMs' | 'drainTimeoutMs' | 'gracePeriodMs' | 'envoyDrainTimeMs' | 'adminAddress'
  >;
  /** pm2's kill_timeout of the app envoy; undefined: it is not under pm2. */
  killTimeoutMs: number | undefined;
  /** terminationGracePeriodSeconds, `docker stop --time` or systemd's TimeoutStopSec, if it was given. */
  gracePeriodMs: number | undefined;
}

/** Up to this drain time Envoy 1.40 closes no idle connection early, nor a websocket (docs/facts/envoy.md). */
const SHORT_DRAIN_TIME_MS = 15_000;

/** Whether each timer leaves enough time for the one inside it. Pure. */
export function checkTimers(timers: Timers): Finding[] {
  return [
    showTimeline(timers),
    ...checkKillTimeout(timers),
    ...checkGracePeriod(timers),
    // An Envoy that pm2-envoy did not start has its own drain time, which it is asked for.
    ...(timers.config.adminAddress ? [] : checkDrainTime(timers.config)),
  ];
}

/** What happens when, and which timer wins. */
function showTimeline({ config, killTimeoutMs: killMs, gracePeriodMs }: Timers): Finding {
  const times = { ...config, gracePeriodMs: gracePeriodMs ?? config.gracePeriodMs };
  return ok('timers', describeTimeline(timelineOf(times, killMs)));
}

function checkKillTimeout({ config, killTimeoutMs: hasMs }: Timers): Finding[] {
  if (hasMs === undefined) return [];
  const neededMs = killTimeoutMs(config);
  if (hasMs >= neededMs) {
    return [
      ok(
        'timers',
        `kill_timeout ${show(hasMs)} covers drain-timeout ${show(config.drainTimeoutMs)} and ${show(afterDrainMs(hasMs))} for what follows it`,
      ),
    ];
  }
  return [
    problem(
      'timers',
      `pm2 kills the runner ${show(hasMs)} after its signal, before a drain of ${show(config.drainTimeoutMs)} has ended: Envoy is left behind`,
      `use the apps of envoyApps(), which set kill_timeout to ${neededMs}, and \`pm2 reload\` the ecosystem file, during which Envoy keeps serving; then \`pm2 save\` if you use that`,
    ),
  ];
}

/**
 * Whether what stops the process waits for the drain, if it is known how long that waits.
 *
 * @param sleepMs what a hook has slept of the platform's time before this grace period
 */
export function checkGracePeriod({
  config,
  gracePeriodMs,
  sleepMs = 0,
}: Pick<Timers, 'config' | 'gracePeriodMs'> & { sleepMs?: number }): Finding[] {
  if (gracePeriodMs === undefined) return [];
  const neededMs = Math.ceil(neededGraceMs(config.drainTimeoutMs) / 1_000) * 1_000;
  const longestMs = Math.max(1_000, longestDrainMs(gracePeriodMs));
  const drain = `check-delay ${show(config.checkDelayMs)} within drain-timeout ${show(config.drainTimeoutMs)}`;
  if (longestDrainMs(gracePeriodMs) >= config.drainTimeoutMs) {
    return [
      ok(
        'timers',
        `a grace period of ${show(gracePeriodMs)} covers ${drain}, and ${show(afterDrainMs(gracePeriodMs))} for what follows it`,
      ),
    ];
  }
  const delay = longestMs <= config.checkDelayMs ? ', with check-delay below that' : '';
  const whole = sleepMs === 0 ? 'it' : 'the whole grace period';
  const remedy = `make ${whole} at least ${show(neededMs + sleepMs)}, or drain-timeout at most ${show(longestMs)}${delay}; or set grace-period to ${show(gracePeriodMs)} and leave both out`;
  if (gracePeriodMs <= config.checkDelayMs) {
    return [
      problem(
        'timers',
        `a grace period of ${show(gracePeriodMs)} is over before check-delay ${show(config.checkDelayMs)} is: the drain waits for no connection`,
        remedy,
      ),
    ];
  }
  return [
    warning(
      'timers',
      `a grace period of ${show(gracePeriodMs)} may end before the drain does (${drain}): connections that are open then are cut`,
      remedy,
    ),
  ];
}

/** Whether Envoy's own drain time ends what a drain wants to wait for. */
export function checkDrainTime(
  times: Pick<Config, 'envoyDrainTimeMs' | 'drainTimeoutMs'>,
): Finding[] {
  const { envoyDrainTimeMs, drainTimeoutMs } = times;
  const beginsMs = (envoyDrainTimeMs * 2) / 3;
  if (envoyDrainTimeMs <= SHORT_DRAIN_TIME_MS || beginsMs >= drainTimeoutMs) {
    return [
      ok(
        'timers',
        `envoy-drain-time ${show(envoyDrainTimeMs)} keeps websockets open during a drain`,
      ),
    ];
  }
  return [
    warning(
      'timers',
      `with envoy-drain-time ${show(envoyDrainTimeMs)} Envoy 1.40 closes idle connections, and active websockets too, from ${show(Math.round(beginsMs))} on: within drain-timeout ${show(drainTimeoutMs)}`,
      `set envoy-drain-time to at least ${show(Math.ceil((drainTimeoutMs * 1.5) / 1_000) * 1_000)} (the default is 10m); to not wait for idle connections, use drain-until requests`,
    ),
  ];
}

function show(ms: number): string {
  return formatDuration(ms);
}
