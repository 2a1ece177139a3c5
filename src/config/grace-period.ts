import { formatDuration, LONGEST_MS } from './duration.js';

/** What may come after a drain at most: hooks that are still under way (10 s), the end of Envoy (15 s), 5 s to spare. */
export const AFTER_DRAIN_MS = 30_000;
/** check-delay where neither it nor a grace period says otherwise. */
const CHECK_DELAY_MS = 60_000;

/**
 * How much of a time until SIGKILL is left for what comes after a drain: a quarter, at most 30 s. Of 10 s that is
 * 2.5 s: an Envoy that has nothing open ends within a tenth of a second, and pm2 sees it within another.
 */
export function afterDrainMs(untilKillMs: number): number {
  return Math.min(AFTER_DRAIN_MS, Math.round(untilKillMs / 4));
}

/** The longest drain that ends in time before SIGKILL. */
export function longestDrainMs(untilKillMs: number): number {
  return untilKillMs - afterDrainMs(untilKillMs);
}

/** The shortest time until SIGKILL that a drain fits into; {@link longestDrainMs} the other way round. */
export function neededGraceMs(drainTimeoutMs: number): number {
  return Math.min(drainTimeoutMs + AFTER_DRAIN_MS, Math.ceil((drainTimeoutMs * 4) / 3));
}

/** check-delay where only drain-timeout is known: two thirds of a drain are for the connections. */
export function checkDelayWithin(drainTimeoutMs: number): number {
  return Math.min(CHECK_DELAY_MS, Math.round(drainTimeoutMs / 3));
}

/** The times that a drain depends on. */
export interface DrainTimes {
  checkDelayMs: number;
  drainTimeoutMs: number;
  /** Undefined: no one has said what the platform allows. */
  gracePeriodMs: number | undefined;
}

/** pm2's kill_timeout: the grace period, or else a whole drain and what comes after it. */
export function killTimeoutMs(times: Pick<DrainTimes, 'drainTimeoutMs' | 'gracePeriodMs'>): number {
  // pm2 takes what Node's timers can't hold for 1 ms.
  return Math.min(times.gracePeriodMs ?? times.drainTimeoutMs + AFTER_DRAIN_MS, LONGEST_MS);
}

/** Why a drain-timeout that is set does not fit into a grace period, with the arithmetic; undefined: it does. */
export function misfitOf(gracePeriodMs: number, drainTimeoutMs: number): string | undefined {
  const longestMs = longestDrainMs(gracePeriodMs);
  if (drainTimeoutMs <= longestMs) return undefined;
  const afterMs = afterDrainMs(gracePeriodMs);
  const show = formatDuration;
  return `${show(drainTimeoutMs)} and ${show(afterMs)} for what follows it are ${show(drainTimeoutMs + afterMs)}: leave drain-timeout out, or make it at most ${show(longestMs)}, or grace-period at least ${show(neededGraceMs(drainTimeoutMs))}`;
}
