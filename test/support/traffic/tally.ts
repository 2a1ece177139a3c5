/** What the clients do. */
export const TRAFFIC_KINDS = [
  'keep-alive',
  'new',
  'http2',
  'slow',
  'tcp',
  'websocket',
  'readyz',
] as const;

/** One of {@link TRAFFIC_KINDS}. */
export type TrafficKind = (typeof TRAFFIC_KINDS)[number];

/** One request or held connection that was lost. */
export interface Failure {
  kind: TrafficKind;
  error: string;
  /** There was no connection: nothing listened. */
  isRefused: boolean;
  /** Since the traffic began. */
  atMs: number;
}

/** What the clients have seen. */
export interface TrafficReport {
  /** Answered or lost, of all kinds but `readyz`. */
  requests: number;
  lost: number;
  /** `refused`: of the lost ones, those that had no connection. */
  kinds: Record<TrafficKind, { requests: number; lost: number; refused: number }>;
  /** The first few of each kind, refused and others. */
  failures: Failure[];
  /** Keep-alive connections that the server closed between two requests, without a word before. */
  closedUnannounced: number;
  /** New connections that were not begun because too many were under way. */
  heldBack: number;
}

/** Counts. */
export interface Tally {
  answered(kind: TrafficKind): void;
  lost(kind: TrafficKind, error: string): void;
  closedUnannounced(): void;
  heldBack(): void;
  report(): TrafficReport;
}

const FAILURES_OF_A_KIND = 5;

/** Creates the counts of one run. */
export function createTally(): Tally {
  const startedMs = Date.now();
  const kinds = Object.fromEntries(
    TRAFFIC_KINDS.map((kind) => [kind, { requests: 0, lost: 0, refused: 0 }]),
  ) as TrafficReport['kinds'];
  const failures: Failure[] = [];
  let closedUnannounced = 0;
  let heldBack = 0;
  const sumOf = (what: 'requests' | 'lost'): number =>
    TRAFFIC_KINDS.filter((kind) => kind !== 'readyz').reduce(
      (sum, kind) => sum + kinds[kind][what],
      0,
    );
  return {
    answered: (kind) => {
      kinds[kind].requests += 1;
    },
    lost: (kind, error) => {
      kinds[kind].requests += 1;
      kinds[kind].lost += 1;
      const isRefused = error.includes('ECONNREFUSED');
      if (isRefused) kinds[kind].refused += 1;
      const alike = failures.filter((one) => one.kind === kind && one.isRefused === isRefused);
      if (alike.length >= FAILURES_OF_A_KIND) return;
      failures.push({ kind, error, isRefused, atMs: Date.now() - startedMs });
    },
    closedUnannounced: () => {
      closedUnannounced += 1;
    },
    heldBack: () => {
      heldBack += 1;
    },
    report: () => ({
      requests: sumOf('requests'),
      lost: sumOf('lost'),
      kinds,
      failures,
      closedUnannounced,
      heldBack,
    }),
  };
}
