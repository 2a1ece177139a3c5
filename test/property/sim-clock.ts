/** Virtual time: nothing happens between two events, and an event takes no time. */
export interface SimClock {
  nowMs(): number;
  /** Calls `action` when the time has come; actions of the same instant in the order of these calls. */
  at(atMs: number, action: () => void): void;
  /** Goes on until `isDone`, `untilMs` or the last event. */
  run(untilMs: number, isDone?: () => boolean): Promise<void>;
}

/** Starts far from 0, so that a duration taken for an instant shows. */
export function createSimClock(startMs = 1_000_000): SimClock {
  let nowMs = startMs;
  const events: { atMs: number; action: () => void }[] = [];
  return {
    nowMs: () => nowMs,
    at: (atMs, action) => {
      const after = events.findIndex((event) => event.atMs > atMs);
      events.splice(after === -1 ? events.length : after, 0, { atMs, action });
    },
    run: async (untilMs, isDone = () => false) => {
      await settled();
      while (!isDone()) {
        const next = events[0];
        if (!next || next.atMs > untilMs) {
          nowMs = Math.max(nowMs, untilMs);
          return;
        }
        events.shift();
        nowMs = Math.max(nowMs, next.atMs);
        next.action();
        await settled();
      }
    },
  };
}

/** Everything that can go on without time passing has done so: promises only, no real timers. */
function settled(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}
