/** Polls may take 2 % of Envoy's main thread (docs/configuration.md, check-interval-min). */
const SHARE = 0.02;
/**
 * What may be saved up, in milliseconds of Envoy's main thread: polls come in bursts near the end. A drain
 * begins with that, as no one polled before it.
 */
const MOST_SAVED_MS = 200;

/** What polls may cost Envoy in all. */
export interface Budget {
  /** Takes off what a poll has cost. */
  spend(costMs: number): void;
  /** Milliseconds until a poll may be made that leaves `reserveMs` saved, 0 unless given; 0: now. */
  waitMs(reserveMs?: number): number;
}

/** Creates the budget of one drain, as a token bucket. */
export function createBudget(nowMs: () => number): Budget {
  let savedMs = MOST_SAVED_MS;
  let atMs = nowMs();
  const refill = (): void => {
    savedMs = Math.min(MOST_SAVED_MS, savedMs + (nowMs() - atMs) * SHARE);
    atMs = nowMs();
  };
  return {
    spend: (costMs) => {
      refill();
      savedMs -= costMs;
    },
    waitMs: (reserveMs = 0) => {
      refill();
      const spareMs = savedMs - Math.min(reserveMs, MOST_SAVED_MS / 2);
      return spareMs > 0 ? 0 : -spareMs / SHARE;
    },
  };
}
