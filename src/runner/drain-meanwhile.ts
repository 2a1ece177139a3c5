import { systemClock } from '../clock.js';
import { openGenerationLedger } from '../drain/locate.js';
import type { DrainRecord } from '../drain/record.js';
import { type Generation, type Generations, predecessorsOf } from '../host/generations.js';
import { silentLog } from '../log.js';

/**
 * Whether a drain of this host has begun, and was not taken back, since this process was started, that
 * knows only of older generations. An earlier one does not count: it is what a reload brings the host
 * back from.
 */
export function isDrainedWithout(own: Generation, generations: Generations): boolean {
  const sinceMs = systemClock.nowMs() - process.uptime() * 1_000;
  return predecessorsOf(own, generations).some((older) => {
    const drain = drainOf(older);
    return drain !== undefined && drain.startedAtMs >= sinceMs;
  });
}

/** The drain of the host that a generation's folder records; undefined: there is none, or it was taken back. */
export function drainOf(generation: Generation): DrainRecord | undefined {
  const drain = openGenerationLedger(generation, 'shutdown', silentLog).read();
  return drain?.result?.outcome === 'cancelled' ? undefined : drain;
}
