import { appliesTo, askedAt, isHeldBy } from '../drain/host-now.js';
import { openHostLedger } from '../drain/locate.js';
import type { DrainRecord } from '../drain/record.js';
import type { Generation, Generations } from '../host/generations.js';
import { silentLog } from '../log.js';

/** The drains of the host, as a runner has to heed them that brings up a generation. */
export interface HostHold {
  /**
   * The drain that keeps the host out of service: one that somebody began, and that nobody has asked the host
   * back from, or any that has begun since this runner did. Undefined: the host may serve.
   */
  drain(): DrainRecord | undefined;
  /** The newest drain of a generation, under way or ended; undefined: it serves. */
  drainOf(generation: Generation): DrainRecord | undefined;
  /** The newest drain that a generation which comes up now is not about: {@link Generation.afterDrain}. */
  afterDrain(): number;
}

/** Opens the hold; who asked for this runner, and when, is read from its environment. */
export function openHold(
  runDir: string,
  generations: Generations,
  env: NodeJS.ProcessEnv = process.env,
): HostHold {
  const newest = (): DrainRecord | undefined =>
    openHostLedger({ runDir, live: generations.live(), log: silentLog }).read();
  const found = newest();
  // `pm2 resurrect` knows only when the app was last saved: a generation may have been asked for since.
  const isOver = found !== undefined && found.number <= generations.lastAfterDrain();
  const isHeld = !isOver && isHeldBy(found, askedAt(env));
  let after = (found?.number ?? 0) - (isHeld ? 1 : 0);
  return {
    drain: () => {
      const latest = newest();
      if (!latest || latest.number <= after) return undefined;
      if (latest.result?.outcome !== 'cancelled' && !latest.isReleased) return latest;
      after = latest.number;
      return undefined;
    },
    drainOf: (generation) => {
      const latest = newest();
      const isOver = latest?.result?.outcome === 'cancelled';
      return latest && !isOver && appliesTo(latest, generation) ? latest : undefined;
    },
    afterDrain: () => after,
  };
}
