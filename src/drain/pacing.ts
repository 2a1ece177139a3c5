import type { Clock } from '../clock.js';
import type { Config } from '../config/config.js';
import type { Budget } from './budget.js';
import { createCadence } from './cadence.js';
import { createCloseSign } from './sign.js';

/** When to ask Envoy again. */
export interface Pacing {
  /** Called before Envoy is asked what is open. */
  begin(): void;
  /** What a call has cost, and what it has shown: `open` connections, and those without a socket. */
  note(poll: { tookMs: number; open?: number; socketless?: number }): void;
  /** Milliseconds until the next poll, by the clock alone, with `toGo` connections to go. */
  delayMs(toGo: number): number;
  /** Rests until the next poll is due, which a sign makes early that `toGo` connections have ended. */
  restUntilDue(toGo: number): Promise<void>;
}

/** Between two looks for a sign: some 40 µs of this process each. Later on the end is less likely near. */
const LOOK_MS = 20;
const LATE_LOOK_MS = 75;
const LATE_MS = 60_000;
/** Connections that end together do so within a few milliseconds: one poll then sees them all. */
const SETTLES_MS = 4;
/** Polls that the clock leaves in the budget, for signs: without them the last one would wait for the budget. */
const SIGNS_RESERVED = 2;
/** Longest time between two looks whether the drain is over: an Envoy that goes is a sign as well. */
const LIVENESS_MS = 500;
const LATE_LIVENESS_MS = 2_000;

/** Creates the pacing of one drain. */
export function createPacing(options: {
  config: Pick<Config, 'checkIntervalMs' | 'checkIntervalMinMs'>;
  clock: Clock;
  /** What polls may cost; who counts spends it. */
  budget: Pick<Budget, 'waitMs'>;
  /** Files that the Envoys have open; undefined: it can't be seen. */
  openFiles: () => number | undefined;
  /** Sleeps, but no longer than until the drain is over. */
  rest: (ms: number) => Promise<void>;
  isOver: () => boolean;
  /** Milliseconds until the drain's deadline. */
  timeLeftMs: () => number;
}): Pacing {
  const { config, clock, budget, openFiles, rest, isOver, timeLeftMs } = options;
  const cadence = createCadence(config);
  const sign = createCloseSign(openFiles);
  const createdMs = clock.nowMs();
  let polledMs = createdMs;
  let open: number | undefined;
  let hasSockets = false;
  let samePolls = 0;

  /** A gauge may lag behind the files by a moment, so polls get rarer only while they say the same. */
  const dueMs = (toGo: number): number => {
    const rarerMs = config.checkIntervalMinMs * 2 ** samePolls;
    const reservedMs = budget.waitMs(SIGNS_RESERVED * cadence.costMs());
    return Math.min(
      config.checkIntervalMs,
      Math.max(cadence.nextDelayMs(toGo), rarerMs, reservedMs),
    );
  };
  const hasCome = async (endMs: number): Promise<boolean> => {
    let aliveMs = clock.nowMs();
    while (clock.nowMs() < endMs) {
      const isLate = clock.nowMs() - createdMs >= LATE_MS;
      const everyMs = isLate ? LATE_LOOK_MS : LOOK_MS;
      await clock.sleep(Math.min(everyMs, endMs - clock.nowMs()));
      if (sign.hasCome()) return true;
      if (clock.nowMs() - aliveMs < (isLate ? LATE_LIVENESS_MS : LIVENESS_MS)) continue;
      aliveMs = clock.nowMs();
      if (isOver()) return false;
    }
    return false;
  };

  return {
    begin: sign.begin,
    note: (poll) => {
      cadence.noteCost(poll.tookMs);
      polledMs = clock.nowMs();
      samePolls = poll.open === open ? samePolls + 1 : 0;
      open = poll.open;
      hasSockets = poll.socketless === 0;
    },
    delayMs: cadence.nextDelayMs,
    restUntilDue: async (toGo) => {
      if (!hasSockets || !sign.expect(toGo)) return rest(cadence.nextDelayMs(toGo));
      const endMs = clock.nowMs() + Math.min(dueMs(toGo), timeLeftMs());
      if (!(await hasCome(endMs))) return;
      const allowedMs = polledMs + config.checkIntervalMinMs - clock.nowMs();
      const waitMs = Math.max(SETTLES_MS, allowedMs, budget.waitMs());
      await rest(Math.min(waitMs, endMs - clock.nowMs()));
    },
  };
}
