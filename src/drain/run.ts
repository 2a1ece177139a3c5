import type { Clock } from '../clock.js';
import type { Config } from '../config/config.js';
import { formatDuration } from '../config/duration.js';
import type { Log } from '../log.js';
import { createEnvoys, type EnvoyTarget, type Sample } from './envoys.js';
import { createPacing } from './pacing.js';
import type { DrainLedger, DrainRecord } from './record.js';
import type { DrainCommand, DrainOutcome, DrainPhase } from './state.js';

/**
 * One drain as hooks see it. Plugins read its progress; the methods are what the lifecycle events
 * do. Each step is bounded by the deadline, never rejects, and does nothing once the outcome is known or
 * another process leads.
 */
export interface DrainRun {
  readonly command: DrainCommand;
  readonly phase: DrainPhase;
  /** ISO 8601 */
  readonly startedAt: string;
  /** Milliseconds until `drain-timeout` is over. */
  timeLeftMs(): number;
  /** Open connections when the drain began; null: not counted yet, or could not be. */
  readonly connectionsAtStart: number | null;
  /** Open connections at the latest look; null: could not be counted. */
  readonly connectionsLeft: number | null;
  /** Set once it is known how the drain ends. */
  readonly outcome: DrainOutcome | undefined;
  /** The latest failure of a call to Envoy. */
  lastError(): string | undefined;
  failHealth(): Promise<void>;
  delay(): Promise<void>;
  close(): Promise<void>;
  wait(): Promise<void>;
  /** Takes `failHealth` back. */
  passHealth(): Promise<void>;
}

/** What one drain's configuration is made of. */
export type DrainConfig = Pick<
  Config,
  | 'checkIntervalMs'
  | 'checkIntervalMinMs'
  | 'checkDelayMs'
  | 'quietPeriodMs'
  | 'minOpenConnections'
  | 'drainTimeoutMs'
  | 'drainUntil'
  | 'ignoreListeners'
>;

/** `drain_listeners` answers before every worker has closed its sockets (within 10 ms, envoy-facts.md). */
const CLOSE_SETTLES_MS = 30;
/**
 * `drain-until: requests` must hold for this many polls while connections are open: a request may be just
 * between two gauges.
 */
const CALM_POLLS = 3;
/** How long an Envoy that does not answer is asked to take its health failure back. */
const PASS_HEALTH_LIMIT_MS = 10_000;
/** Longest time between two looks whether Envoy still exists. */
const LIVENESS_MS = 500;

/** Creates the steps of one drain, new or taken over: `record` says what has been done. */
export function createDrainRun(options: {
  command: DrainCommand;
  record: DrainRecord;
  ledger: Pick<DrainLedger, 'decide' | 'decision'>;
  targets: readonly EnvoyTarget[];
  config: DrainConfig;
  clock: Clock;
  log: Log;
  /** Whether this process still leads; once it does not, the steps do nothing more. */
  isLeader?: () => boolean;
}): DrainRun & { enter(phase: DrainPhase): DrainRecord } {
  const { command, config, clock, log, ledger, isLeader = () => true } = options;
  const record = { ...options.record };
  const envoys = createEnvoys({
    targets: options.targets,
    rule: config,
    deadlineMs: record.deadlineMs,
    clock,
    log,
    isLeader,
  });
  let left: number | null = null;
  let outcome: DrainOutcome | undefined;

  const timeLeftMs = (): number => Math.max(0, record.deadlineMs - clock.nowMs());
  const isOver = (): boolean => {
    if (!outcome && envoys.allGone()) {
      outcome = 'envoy-gone';
      left = 0;
    }
    if (!outcome && command === 'shutdown' && ledger.decision() === 'cancel') {
      outcome = 'cancelled';
    }
    return outcome !== undefined || !isLeader();
  };
  const look = async (): Promise<Sample> => {
    pacing.begin();
    const sample = await envoys.sample();
    left = sample.kind === 'known' ? sample.open : sample.kind === 'gone' ? 0 : null;
    if (sample.kind === 'known') pacing.note(sample);
    return sample;
  };
  const lookAtStart = async (): Promise<void> => {
    if (record.connectionsAtStart !== null || timeLeftMs() === 0) return;
    await look();
    record.connectionsAtStart = left;
  };
  /** Sleeps in parts, so that an Envoy that dies is noticed. */
  const rest = async (ms: number): Promise<void> => {
    const endMs = clock.nowMs() + Math.min(ms, timeLeftMs());
    while (!isOver() && clock.nowMs() < endMs) {
      await clock.sleep(Math.min(LIVENESS_MS, endMs - clock.nowMs()));
    }
  };
  /** Until the next try, or until an Envoy is gone: it may have been the one that did not answer. */
  const restUnlessOneGoes = async (ms: number): Promise<void> => {
    const before = envoys.left();
    const endMs = clock.nowMs() + Math.min(ms, timeLeftMs());
    while (!isOver() && envoys.left() === before && clock.nowMs() < endMs) {
      await rest(Math.min(config.checkIntervalMinMs, endMs - clock.nowMs()));
    }
  };

  const pacing = createPacing({
    config,
    clock,
    openFiles: envoys.openFiles,
    rest,
    isOver,
    timeLeftMs,
  });

  return {
    command,
    get phase() {
      return record.phase;
    },
    startedAt: record.startedAt,
    timeLeftMs,
    get connectionsAtStart() {
      return record.connectionsAtStart;
    },
    get connectionsLeft() {
      return left;
    },
    get outcome() {
      return outcome;
    },
    lastError: envoys.lastError,

    enter: (phase) => {
      record.phase = phase;
      if (phase === 'delay') record.delayStartedAtMs ??= clock.nowMs();
      return { ...record };
    },

    failHealth: async () => {
      if (isOver()) return;
      await envoys.tellAll(
        'fail its health check',
        (admin, signal) => admin.failHealthCheck(signal),
        isOver,
      );
      if (!isOver()) await lookAtStart();
    },

    delay: async () => {
      const startMs = record.delayStartedAtMs ?? clock.nowMs();
      const endMs = Math.min(startMs + config.checkDelayMs, record.deadlineMs);
      let known: number | undefined;
      let quietSinceMs = startMs;
      while (!isOver() && clock.nowMs() < endMs) {
        const accepted = await envoys.accepted();
        const nowMs = clock.nowMs();
        if (accepted?.total !== known) quietSinceMs = nowMs;
        known = accepted?.total;
        if (config.quietPeriodMs > 0 && accepted && nowMs - quietSinceMs >= config.quietPeriodMs) {
          log.info(
            `no new connection for ${formatDuration(config.quietPeriodMs)}: check-delay ends early`,
          );
          return;
        }
        if (accepted) pacing.note(accepted);
        const paceMs =
          config.quietPeriodMs > 0
            ? Math.max(pacing.delayMs(0), config.quietPeriodMs / 10)
            : config.checkIntervalMs;
        await rest(Math.min(paceMs, endMs - clock.nowMs()));
      }
    },

    close: async () => {
      if (isOver()) return;
      await envoys.forgetReplaced();
      if (isOver()) return;
      await lookAtStart();
      if (command === 'shutdown' && ledger.decide('close') === 'cancel') {
        outcome = 'cancelled';
        return;
      }
      // In a shutdown the failed health check has asked them all already.
      if (command === 'handover') {
        await envoys.tellAll('ask its clients to leave', (admin, signal) =>
          admin.askClientsToLeave(signal),
        );
      }
      await envoys.tellAll('close its listeners', (admin, signal) => admin.closeListeners(signal));
      await rest(CLOSE_SETTLES_MS);
    },

    passHealth: async () => {
      const endMs = clock.nowMs() + PASS_HEALTH_LIMIT_MS;
      await envoys.tellAll(
        'pass its health check again',
        (admin, signal) => admin.passHealthCheck(signal),
        () => clock.nowMs() >= endMs,
      );
    },

    wait: async () => {
      const byRequests = config.drainUntil === 'requests';
      let calm = 0;
      while (!isOver()) {
        const sample = await look();
        if (isOver()) return;
        const goal = sample.kind === 'known' ? (byRequests ? sample.busy : sample.open) : Infinity;
        calm = goal <= config.minOpenConnections ? calm + 1 : 0;
        const isIdle = byRequests && left !== null && left > config.minOpenConnections;
        if (calm >= (isIdle ? CALM_POLLS : 1)) {
          outcome = 'drained';
        } else if (timeLeftMs() === 0) {
          outcome = sample.kind === 'known' ? 'timeout' : 'admin-unreachable';
        } else {
          const toGo = Number.isFinite(goal) ? goal - config.minOpenConnections : 0;
          // Files tell of connections; whether a request has ended they don't.
          if (sample.kind !== 'known') await restUnlessOneGoes(pacing.delayMs(toGo));
          else if (byRequests) await rest(pacing.delayMs(toGo));
          else await pacing.restUntilDue(toGo);
        }
      }
    },
  };
}
