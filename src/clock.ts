/** Time as the drain needs it; tests hand in their own. */
export interface Clock {
  /**
   * Milliseconds of the machine's monotonic clock. On Linux and macOS every process reads the same
   * clock, so a deadline written by one process holds in another, whatever the wall clock does.
   */
  nowMs(): number;
  /** Resolves after `ms`, or immediately when `signal` aborts; never rejects. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

/** The machine's clock. */
export const systemClock: Clock = {
  nowMs: () => Number(process.hrtime.bigint() / 1_000_000n),
  sleep: (ms, signal) =>
    new Promise((resolve) => {
      if (signal?.aborted) return resolve();
      const done = (): void => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', done);
        resolve();
      };
      const timer = setTimeout(done, Math.max(0, ms));
      signal?.addEventListener('abort', done, { once: true });
    }),
};

/**
 * Asks `check` every `everyMs` until it gives something other than undefined, or `limitMs` are over.
 * Returns undefined then.
 */
export async function until<T>(
  check: () => T | undefined | Promise<T | undefined>,
  times: { everyMs: number; limitMs: number },
  clock: Clock = systemClock,
): Promise<T | undefined> {
  const deadlineMs = clock.nowMs() + times.limitMs;
  for (;;) {
    const result = await check();
    if (result !== undefined) return result;
    if (clock.nowMs() >= deadlineMs) return undefined;
    await clock.sleep(times.everyMs);
  }
}
