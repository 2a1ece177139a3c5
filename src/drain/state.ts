/** The lifecycle events of a shutdown, in order (contract 3). */
export const SHUTDOWN_EVENTS: readonly DrainPhase[] = [
  'fail-health',
  'delay',
  'close',
  'wait',
  'finish',
];

/** The lifecycle events of a hand-over: the host stays in service, so its health is not touched. */
export const HANDOVER_EVENTS: readonly DrainPhase[] = ['close', 'wait', 'finish'];

/** The lifecycle events of taking a drain back. */
export const RESUME_EVENTS: readonly string[] = ['pass-health', 'finish'];

/** The lifecycle events of a new generation. */
export const START_EVENTS: readonly string[] = ['live'];

/** Where a drain is. */
export type DrainPhase = 'fail-health' | 'delay' | 'close' | 'wait' | 'finish';

/** The commands that drain. */
export type DrainCommand = 'shutdown' | 'handover';

/** How a drain ended. */
export type DrainOutcome =
  /** As few connections as `min-open-connections` are left. */
  | 'drained'
  /** `drain-timeout` was over first. */
  | 'timeout'
  /** Somebody took it back. */
  | 'cancelled'
  /** There is no Envoy any more: nothing is left to drain. */
  | 'envoy-gone'
  /** Envoy exists, but could not be asked until `drain-timeout` was over. */
  | 'admin-unreachable';

/** Every outcome. */
export const OUTCOMES: readonly DrainOutcome[] = [
  'drained',
  'timeout',
  'cancelled',
  'envoy-gone',
  'admin-unreachable',
];

/** What a drain came to; also the body of `/shutdown`. */
export interface DrainResult {
  outcome: DrainOutcome;
  /** The phase that it ended in. */
  phase: DrainPhase;
  /** ISO 8601 */
  startedAt: string;
  durationMs: number;
  /** Open connections when the drain began; null: could not be counted. */
  connectionsAtStart: number | null;
  /** Open connections at the end, cut when Envoy stops; null: could not be counted. */
  connectionsLeft: number | null;
}

/** What taking a drain back came to. */
export type ResumeResult =
  /** Envoy's health passes again; `drain` is what was cancelled, null where only its health was failed. */
  | { kind: 'resumed'; drain: DrainResult | null }
  /** No drain runs, and Envoy is healthy. */
  | { kind: 'nothing' }
  /** Its listeners are closed, it is being stopped, or there is no Envoy. */
  | { kind: 'too-late'; reason: string }
  /** Envoy does not answer, or still says DRAINING. */
  | { kind: 'unreachable'; reason: string };

/** A drain as it is seen from outside. */
export type DrainState =
  | { kind: 'idle' }
  | ({ kind: 'draining' } & DrainProgress)
  | { kind: 'ended'; result: DrainResult };

/** A drain under way. */
export interface DrainProgress {
  phase: DrainPhase;
  /** ISO 8601 */
  startedAt: string;
  /** When `drain-timeout` will be over, on the monotonic clock ({@link Clock.nowMs}). */
  deadlineMs: number;
  connectionsAtStart: number | null;
}

/** The events of a drain command. */
export function eventsOf(command: DrainCommand): readonly DrainPhase[] {
  return command === 'shutdown' ? SHUTDOWN_EVENTS : HANDOVER_EVENTS;
}

/** What somebody is told who wants a drain back that can't be taken back. */
export function describeTooLate(reason: string): string {
  return `${reason}: it can't be taken back; \`pm2-envoy redeploy\` brings up a new Envoy`;
}
