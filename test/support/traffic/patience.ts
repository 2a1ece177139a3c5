const TICK_MS = 100;

const waiting = new Map<object, { ticksLeft: number; giveUp: () => void }>();
setInterval(tick, TICK_MS).unref();

/**
 * Calls `giveUp` after `limitMs` in which this process could run. A plain timer would also count the
 * time for which a busy machine gave it no turn, and fire before the answer that came meanwhile is
 * read.
 *
 * @returns to be called when the wait is over
 */
export function waitAtMost(limitMs: number, giveUp: () => void): () => void {
  const key = {};
  waiting.set(key, { ticksLeft: Math.ceil(limitMs / TICK_MS), giveUp });
  return () => void waiting.delete(key);
}

function tick(): void {
  for (const [key, wait] of waiting) {
    wait.ticksLeft -= 1;
    if (wait.ticksLeft > 0) continue;
    waiting.delete(key);
    wait.giveUp();
  }
}
