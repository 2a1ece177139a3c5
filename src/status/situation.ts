import type { DrainOutcome, DrainPhase } from '../drain/state.js';
import type { EnvoyStatus, Status } from './status.js';

/** What a host is doing, with what there is to know of that only. */
export type Situation =
  /** No drain, and no Envoy, but perhaps one that is starting again: the latest start may have failed. */
  | { kind: 'no-envoy'; failedStart: Status['failedStart'] }
  /** Envoy's listeners are closed, by no drain of pm2-envoy's. */
  | { kind: 'listeners-closed' }
  /** Another program has failed Envoy's health check. */
  | { kind: 'orphaned-drain' }
  /** No Envoy has served yet: the first one is starting, and silent until then. */
  | { kind: 'starting' }
  /** There is an Envoy, and no drain. */
  | { kind: 'idle'; envoy: EnvoyStatus }
  /** `isAbandoned`: no process leads it. */
  | { kind: 'draining'; phase: DrainPhase; isAbandoned: boolean }
  | { kind: 'ended'; outcome: DrainOutcome };

/** What a status says the host is doing. */
export function situationOf(status: Status): Situation {
  const { phase, outcome, envoy, failedStart } = status;
  if (outcome !== null) return { kind: 'ended', outcome };
  if (phase !== 'idle') return { kind: 'draining', phase, isAbandoned: status.abandonedDrain };
  if (!envoy || failedStart) return { kind: 'no-envoy', failedStart };
  if (status.listenersClosed) return { kind: 'listeners-closed' };
  if (status.orphanedDrain) return { kind: 'orphaned-drain' };
  return isComingUp(status) ? { kind: 'starting' } : { kind: 'idle', envoy };
}

/** Whether the newest Envoy is still starting, so that none serves. */
export function isComingUp({ envoy, generations }: Pick<Status, 'envoy' | 'generations'>): boolean {
  const newest = generations.find(({ number }) => number === envoy?.generation);
  return newest?.state === 'starting';
}

/** Whether a drain is under way. */
export function isDraining(status: Status): boolean {
  return situationOf(status).kind === 'draining';
}
