import { unreachable } from '../errors.js';

/** The lifecycle events of a shutdown, in order (docs/plugins.md, hooks). */
export const SHUTDOWN_EVENTS: readonly DrainPhase[] = [
  'fail-health',
  'delay',
  'close',
  'wait',
  'finish',
];

/** The lifecycle events of a hand-over: the host stays in service, so its health is not touched. */
export const HANDOVER_EVENTS: readonly DrainPhase[] = ['close', 'wait', 'finish'];

/** The lifecycle events of cancelling a drain. */
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
  /** It was cancelled. */
  | 'cancelled'
  /** There is no Envoy any more: nothing is left to drain. */
  | 'envoy-gone'
  /** Envoy exists, but could not be asked until `drain-timeout` was over, or refused to close its listeners. */
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

/** The result of cancelling a drain. */
export type ResumeResult =
  /** Envoy's health passes again; `drain` is what was cancelled, null where only its health was failed. */
  | { kind: 'resumed'; drain: DrainResult | null }
  /** No drain runs, and Envoy is healthy. */
  | { kind: 'nothing' }
  /** Its listeners are closed, it is being stopped, or there is no Envoy. */
  | { kind: 'too-late'; reason: string }
  /** Envoy does not answer, or still says DRAINING. */
  | { kind: 'unreachable'; reason: string };

/** When a drain entered one of its phases. */
export interface DrainStep {
  phase: DrainPhase;
  /** ISO 8601 */
  at: string;
}

/** Who began a drain. */
export interface DrainOrigin {
  kind: DrainOriginKind;
  /** The peer's address, the user's name, or the signal. */
  detail?: string;
}

/** What can begin a drain. */
export type DrainOriginKind =
  /** A request to the manager. */
  | 'http'
  /** `pm2-envoy shutdown` */
  | 'cli'
  /** `pm2 trigger envoy-manager shutdown` */
  | 'trigger'
  /** SIGTERM to the manager. */
  | 'signal'
  /** `orphaned-drain` is `shutdown`, and another program had failed Envoy's health check. */
  | 'orphaned-drain'
  /** The app was stopped: `pm2 stop`, `delete` or `kill`, or SIGTERM to the runner. */
  | 'stop'
  /** Another version of pm2-envoy, or a process that does not say. */
  | 'unknown';

/**
 * Who a drain of the command line is begun by. A systemd unit that runs it after its stop (ExecStopPost has
 * SERVICE_RESULT) drains as a stop does: the next start brings the host back.
 */
export function originOfCommand(user: string, env: NodeJS.ProcessEnv = process.env): DrainOrigin {
  return env['SERVICE_RESULT'] === undefined ? { kind: 'cli', detail: user } : { kind: 'stop' };
}

/** The header with which the command line tells the manager who runs it: `cli USER`, or `stop`. */
export const CALLER_HEADER = 'pm2-envoy-caller';

/** What lasts of a drain's course. */
export interface DrainCourse {
  /** The phases so far, in order. */
  steps: readonly DrainStep[];
  /** `check-delay` of the one that began it; null: not recorded. */
  checkDelayMs: number | null;
  /** Null: not recorded. */
  startedBy: DrainOrigin | null;
}

/** A drain as it is seen from outside. */
export type DrainState =
  | { kind: 'idle' }
  | ({ kind: 'draining' } & DrainProgress & Partial<DrainCourse>)
  | ({ kind: 'ended'; result: DrainResult } & Partial<DrainCourse>);

/** A drain under way. */
export interface DrainProgress {
  phase: DrainPhase;
  /** ISO 8601 */
  startedAt: string;
  /** When `drain-timeout` will be over, on the monotonic clock ({@link Clock.nowMs}). */
  deadlineMs: number;
  connectionsAtStart: number | null;
}

/** Whether a host stays out of service after such a drain until a start is requested. */
export function keepsHostOut({ kind }: DrainOrigin): boolean {
  // A stopped app is brought back by its next start, which `pm2 resurrect` is too.
  return kind !== 'stop' && kind !== 'unknown';
}

/** Who began a drain, in words. */
export function describeOrigin({ kind, detail }: DrainOrigin): string {
  switch (kind) {
    case 'http':
      return `an HTTP request from ${detail ?? 'an unknown address'}`;
    case 'cli':
      return `\`pm2-envoy shutdown\`${detail === undefined ? '' : ` of user ${detail}`}`;
    case 'trigger':
      return '`pm2 trigger`';
    case 'signal':
      return `${detail ?? 'a signal'} to the manager`;
    case 'orphaned-drain':
      return 'the manager, because orphaned-drain is shutdown';
    case 'stop':
      return `the stop of the app${detail === undefined ? '' : ` (${detail})`}`;
    case 'unknown':
      return 'an unknown process';
    default:
      return unreachable(kind);
  }
}

/** What an ended drain comes to for people: when, by whom, and how the host comes back. */
export function describeEnded(result: DrainResult, startedBy?: DrainOrigin | null): string {
  return `${describeDrained(result, startedBy)}; bring it back with \`pm2-envoy redeploy\``;
}

/** The same without how it comes back. */
export function describeDrained(result: DrainResult, startedBy?: DrainOrigin | null): string {
  const at = new Date(Date.parse(result.startedAt) + result.durationMs).toISOString();
  const by = startedBy ? `, by ${describeOrigin(startedBy)}` : '';
  const { outcome, connectionsLeft } = result;
  const isEmpty = outcome === 'drained' || outcome === 'envoy-gone';
  const left = connectionsLeft === null ? '' : `, with ${connectionsLeft} open`;
  const how = outcome === 'drained' ? '' : ` (${outcome}${isEmpty ? '' : left})`;
  return `${isEmpty ? 'drained at' : 'out of service since'} ${at}${by}${how}`;
}

/** The events of a drain command. */
export function eventsOf(command: DrainCommand): readonly DrainPhase[] {
  return command === 'shutdown' ? SHUTDOWN_EVENTS : HANDOVER_EVENTS;
}

/** The message for a drain that can't be cancelled. */
export function describeTooLate(reason: string): string {
  const next = reason === NO_ENVOY ? STARTS_ENVOY : '`pm2-envoy redeploy` brings up a new Envoy';
  return `${reason}: the drain can't be cancelled; ${next}`;
}

/** Why nothing can be cancelled where nothing runs. */
export const NO_ENVOY = 'there is no Envoy';

/** What to do then: `pm2 delete` makes pm2 forget the app, which a redeploy needs. */
export const STARTS_ENVOY =
  '`pm2-envoy redeploy` starts one, or `pm2 start ecosystem.config.js` where pm2 does not have the app';
