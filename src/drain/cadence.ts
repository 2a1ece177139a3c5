/** Polls may take 2 % of Envoy's main thread (docs/configuration.md, check-interval-min). */
const COST_FACTOR = 50;
/**
 * Replies that the cost of a poll is taken from. Each is an upper bound of what Envoy worked for it (it
 * may have queued, or the machine was busy), so the smallest is the best estimate.
 */
const REPLIES = 5;
/** Up to this many connections above the threshold the end counts as near. */
const NEAR = 1_000;

/** Decides how long to wait before the next poll. */
export interface Cadence {
  /** Notes how long Envoy took for a poll. */
  noteCost(tookMs: number): void;
  /** What a poll costs Envoy's main thread, in milliseconds; 0 before the first. */
  costMs(): number;
  /** Milliseconds until the next poll, with `left` connections to go. */
  nextDelayMs(left: number): number;
}

/**
 * Creates the pace of one drain's polling: never slower than `check-interval`; near the end as fast
 * as `check-interval-min` as long as that keeps Envoy's main thread below 2 %. With thousands of
 * connections left the pace grows with their number.
 */
export function createCadence(limits: {
  checkIntervalMs: number;
  checkIntervalMinMs: number;
}): Cadence {
  const costsMs: number[] = [];
  const costMs = (): number => (costsMs.length > 0 ? Math.min(...costsMs) : 0);
  return {
    costMs,
    noteCost: (tookMs) => {
      costsMs.push(tookMs);
      if (costsMs.length > REPLIES) costsMs.shift();
    },
    nextDelayMs: (left) => {
      const affordableMs = costMs() * COST_FACTOR;
      const fastestMs = Math.max(limits.checkIntervalMinMs, affordableMs);
      return Math.min(limits.checkIntervalMs, fastestMs * Math.max(1, left / NEAR));
    },
  };
}
