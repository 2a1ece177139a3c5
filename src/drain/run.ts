import type { AdminClient } from '../admin/client.js';
import type { Clock } from '../clock.js';
import type { Config } from '../config/config.js';
import { formatDuration } from '../config/duration.js';
import { isPm2EnvoyError } from '../errors.js';
import { sameProcess } from '../host/process-identity.js';
import type { Log } from '../log.js';
import type { Counters } from './count.js';
import { createEnvoys, type EnvoyTarget, type Sample, type Told, worstOf } from './envoys.js';
import type { HostNow } from './host-now.js';
import { createPacing } from './pacing.js';
import { closeTcpFirst } from './quic-last.js';
import type { DrainLedger, DrainRecord } from './record.js';
import type { DrainCommand, DrainOutcome, DrainPhase } from './state.js';
import { untilUdpIsQuiet } from './udp-replies.js';

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
  /** Whether it is cancelled because another generation has brought the host back. */
  readonly isOvertaken: boolean;
  /** The latest failure of a call to Envoy. */
  lastError(): string | undefined;
  failHealth(): Promise<void>;
  delay(): Promise<void>;
  close(): Promise<void>;
  wait(): Promise<void>;
  /** Reverts `failHealth`; rejects when an Envoy could not be told. */
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
  | 'drainListeners'
  | 'ignoreListeners'
>;

/** `drain_listeners` answers before every worker has closed its sockets (within 10 ms, docs/facts/envoy.md). */
const CLOSE_SETTLES_MS = 30;
/**
 * `drain-until: requests` must hold for this many polls while connections are open: a request may be just
 * between two gauges.
 */
const CALM_POLLS = 3;
const UNKNOWN = { busy: Number.POSITIVE_INFINITY, open: Number.POSITIVE_INFINITY };
/** How long an Envoy that does not answer is asked to pass its health check again. */
const PASS_HEALTH_LIMIT_MS = 10_000;
/** Longest time between two looks whether Envoy still exists. */
const LIVENESS_MS = 500;
/** Time between two looks for generations that have come meanwhile. */
const HOST_LOOK_MS = 250;

/** Creates the steps of one drain, new or taken over: `record` says what has been done. */
export function createDrainRun(options: {
  command: DrainCommand;
  record: DrainRecord;
  ledger: Pick<DrainLedger, 'decide' | 'decision' | 'hasLater'>;
  targets: readonly EnvoyTarget[];
  config: DrainConfig;
  clock: Clock;
  log: Log;
  counters?: Counters | undefined;
  /** Whether this process still leads; once it does not, the steps do nothing more. */
  isLeader?: () => boolean;
  /** Looks at the host again: what came meanwhile is drained too, before anyone says `drained`. */
  lookAtHost?: (() => HostNow) | undefined;
  /** Told of each change of the record besides its phase. */
  onChange?: (record: DrainRecord) => void;
}): DrainRun & { enter(phase: DrainPhase): DrainRecord } {
  const { command, config, clock, log, ledger, isLeader = () => true } = options;
  const record = { ...options.record };
  const quicIsLast = command === 'handover' && options.targets.some((one) => one.quicIsLast);
  const isKnown = ({ process }: EnvoyTarget): boolean =>
    options.lookAtHost === undefined || record.envoys.some((one) => sameProcess(one, process));
  const envoys = createEnvoys({
    // The others count as come meanwhile: no one may have told them yet.
    targets: options.targets.filter(isKnown),
    rule: { ...config, ...(quicIsLast ? { drainUntil: 'requests' } : {}) },
    deadlineMs: record.deadlineMs,
    clock,
    log,
    counters: options.counters,
    isLeader,
  });
  let left: number | null = null;
  let outcome: DrainOutcome | undefined;
  let isOvertaken = false;
  let host = { isStarting: false, lookedAtMs: Number.NEGATIVE_INFINITY };
  let hasClosed = false;
  /** One that could not be told to close its listeners, or refused, takes connections still. */
  let closing: Told = 'done';
  const newcomers: EnvoyTarget[] = [];
  const inboundFirst = command === 'shutdown' && config.drainListeners === 'inbound';

  const timeLeftMs = (): number => Math.max(0, record.deadlineMs - clock.nowMs());
  const lookAround = (isDue = clock.nowMs() >= host.lookedAtMs + HOST_LOOK_MS): void => {
    if (!options.lookAtHost || !isDue) return;
    const { targets, isStarting, isBack } = options.lookAtHost();
    host = { isStarting, lookedAtMs: clock.nowMs() };
    for (const target of targets) if (envoys.add(target)) newcomers.push(target);
    if (!isBack) return;
    isOvertaken = true;
    outcome = 'cancelled';
  };
  const isOver = (): boolean => {
    if (!outcome) lookAround();
    if (!outcome && envoys.allGone()) {
      lookAround(true);
      if (!outcome && !host.isStarting && envoys.allGone()) {
        outcome = 'envoy-gone';
        left = 0;
      }
    }
    if (!outcome && command === 'shutdown' && ledger.decision() === 'cancel') {
      outcome = 'cancelled';
    }
    return outcome !== undefined || !isLeader();
  };
  const closeThose = (over?: () => boolean, only?: readonly EnvoyTarget[]): Promise<Told> =>
    envoys.tellAll(
      'close its listeners',
      (admin, signal) =>
        unlessClosed(
          admin,
          signal,
          (inboundFirst ? admin.closeInbound : admin.closeListeners)(signal),
        ),
      over,
      only,
    );
  /** Brings those that came meanwhile to where the drain is. */
  const greet = async (): Promise<void> => {
    const fresh = newcomers.splice(0);
    if (fresh.length === 0 || isOver()) return;
    const known = fresh.flatMap(({ process }) => process ?? []);
    record.envoys = [...record.envoys, ...known];
    options.onChange?.({ ...record });
    log.info(`${fresh.map(({ name }) => name).join(', ')} came up meanwhile: draining it too`);
    await envoys.tellAll(
      'fail its health check',
      (admin, signal) => admin.failHealthCheck(signal),
      isOver,
      fresh,
    );
    if (!hasClosed || isOver()) return;
    closing = worstOf([closing, await closeThose(isOver, fresh)]);
    await rest(CLOSE_SETTLES_MS);
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

  /** Egress stays open until no request needs it any more. Idempotent: a process that takes over does it again. */
  const closeOutboundLast = async (): Promise<void> => {
    while (!isOver() && timeLeftMs() > 0) {
      const sample = await look();
      const open = await envoys.openInbound();
      const { busy, open: all } = sample.kind === 'known' ? sample : UNKNOWN;
      const goal = config.drainUntil === 'requests' ? busy : (open ?? all);
      if (goal <= config.minOpenConnections) break;
      await rest(pacing.delayMs(Number.isFinite(goal) ? goal : 0));
    }
    if (isOver()) return;
    await envoys.tellAll('ask its clients to leave', (admin, signal) =>
      admin.askClientsToLeave(signal),
    );
    closing = await envoys.tellAll('close its listeners', (admin, signal) =>
      unlessClosed(admin, signal, admin.closeListeners(signal)),
    );
    await rest(CLOSE_SETTLES_MS);
  };

  const pacing = createPacing({
    config,
    clock,
    budget: envoys,
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
    get isOvertaken() {
      return isOvertaken;
    },
    lastError: envoys.lastError,

    enter: (phase) => {
      if (record.steps.at(-1)?.phase !== phase)
        record.steps = [...record.steps, { phase, at: new Date().toISOString() }];
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
        await greet();
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
      await greet();
      if (isOver()) return;
      await lookAtStart();
      if (command === 'shutdown' && ledger.decide('close') === 'cancel') {
        outcome = 'cancelled';
        return;
      }
      hasClosed = true;
      if (quicIsLast) {
        await closeTcpFirst({ envoys, isOver, timeLeftMs, clock, ...config });
      } else {
        // The failed health check of a shutdown does not ask clients of listeners with drain_type MODIFY_ONLY.
        await envoys.tellAll('ask its clients to leave', (admin, signal) =>
          inboundFirst ? admin.askInboundToLeave(signal) : admin.askClientsToLeave(signal),
        );
      }
      if (command === 'handover') {
        await untilUdpIsQuiet({ targets: options.targets, isOver, timeLeftMs, clock, log });
      }
      closing = await closeThose();
      await rest(CLOSE_SETTLES_MS);
    },

    passHealth: async () => {
      const endMs = clock.nowMs() + PASS_HEALTH_LIMIT_MS;
      // Another drain may begin at any moment. It has its record before it fails the health check.
      const isSucceeded = (): boolean => ledger.hasLater(record.number);
      let passed = 0;
      await envoys.tellAll(
        'pass its health check again',
        async (admin, signal) => {
          await admin.passHealthCheck(signal);
          passed += 1;
        },
        () => clock.nowMs() >= endMs || isSucceeded(),
      );
      if (isSucceeded()) {
        await envoys.tellAll('fail its health check', (admin, signal) =>
          admin.failHealthCheck(signal),
        );
        return;
      }
      if (passed === 0 || passed < envoys.left()) {
        throw new Error(`Envoy does not pass its health check again: ${envoys.lastError()}`);
      }
    },

    wait: async () => {
      // HTTP/3 connections that are idle would keep new ones from the newer generation.
      const byRequests = config.drainUntil === 'requests' || quicIsLast;
      if (inboundFirst) await closeOutboundLast();
      let calm = 0;
      // Who led before may have got no further.
      if (!hasClosed) closing = await closeThose(isOver);
      hasClosed = true;
      while (!isOver()) {
        await greet();
        const sample = await look();
        if (isOver()) return;
        if (closing === 'late') closing = await closeThose(() => true);
        const goal = sample.kind === 'known' ? (byRequests ? sample.busy : sample.open) : Infinity;
        calm = goal <= config.minOpenConnections ? calm + 1 : 0;
        const isIdle = byRequests && left !== null && left > config.minOpenConnections;
        if (calm >= (isIdle ? CALM_POLLS : 1)) {
          lookAround(true);
          if (isOver()) return;
          const isAll = newcomers.length === 0 && !host.isStarting;
          if (isAll && closing === 'done') outcome = 'drained';
          // It takes new connections for good, so nothing is left to wait for.
          else if (isAll && closing === 'refused') outcome = 'admin-unreachable';
          else if (timeLeftMs() === 0)
            outcome = closing === 'done' ? 'timeout' : 'admin-unreachable';
          else await rest(config.checkIntervalMinMs);
        } else if (timeLeftMs() === 0) {
          outcome = sample.kind === 'unknown' ? 'admin-unreachable' : 'timeout';
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

/** One that refuses may have closed its listeners before: by another leader, or another program. */
async function unlessClosed(
  admin: AdminClient,
  signal: AbortSignal,
  closed: Promise<void>,
): Promise<void> {
  try {
    await closed;
  } catch (error) {
    if (isPm2EnvoyError(error, 'admin-refused') && (await admin.hasClosedListeners(signal))) return;
    throw error;
  }
}
