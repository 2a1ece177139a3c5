/** What was open at one moment. */
export interface PacePoint {
  /** Monotonic. */
  atMs: number;
  open: number;
}

/** Estimates from the points of the last half minute. */
export interface Pace {
  note(point: PacePoint): void;
  /** Milliseconds until so few are left, as they have ended lately; undefined: they don't. */
  msUntil(threshold: number): number | undefined;
  /** The points of the last minutes, oldest first: what a chart shows. */
  points(): readonly PacePoint[];
}

const WINDOW_MS = 30_000;
/** Five minutes at two points a second. */
const MOST_POINTS = 600;
/** A pace of less time than this is chance. */
const SHORTEST_MS = 1_000;

/** Creates an empty one. */
export function createPace(): Pace {
  const points: PacePoint[] = [];
  return {
    note: (point) => {
      points.push(point);
      if (points.length > MOST_POINTS) points.shift();
    },
    points: () => points,
    msUntil: (threshold) => {
      const last = points.at(-1);
      if (!last) return undefined;
      if (last.open <= threshold) return 0;
      const recent = points.filter(({ atMs }) => last.atMs - atMs <= WINDOW_MS);
      // Only what has ended counts: before its listeners close, new ones come in between.
      const highest = recent.reduce((top, point) => (point.open >= top.open ? point : top), last);
      const tookMs = last.atMs - highest.atMs;
      const ended = highest.open - last.open;
      if (ended <= 0 || tookMs < SHORTEST_MS) return undefined;
      return ((last.open - threshold) / ended) * tookMs;
    },
  };
}
