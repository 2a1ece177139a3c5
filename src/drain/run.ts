import type { AdminClient } from '../admin/client.js';
import type { Clock } from '../clock.js';
import type { Config } from '../config/config.js';
import { formatDuration } from '../config/duration.js';
import { isPm2EnvoyError } from '../errors.js';
import { sameProcess } from '../host/process-identity.js';
import type { Log } from '../log.js';
import type { Counters } from './count.js';
import { type Course, createCourse } from './course.js';
import { createEnvoys, type Envoys, type EnvoyTarget, type Told, worstOf } from './envoys.js';
import type { HostNow } from './host-now.js';
import { closeTcpFirst } from './quic-last.js';
import type { DrainLedger, DrainRecord } from './record.js';
import type { DrainCommand, DrainOutcome, DrainPhase } from './state.js';
import { untilUdpIsQuiet } from './udp-replies.js';

/** One drain as the hooks of plugins see it: its progress, to read only. */
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
}

/**
 * What the lifecycle events of a drain do. Each step is bounded by the deadline, never rejects, and does nothing once
 * the outcome is known or another process leads.
 */
export interface DrainSteps extends DrainRun {
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

/**
 * `drain_listeners` answers before every worker has closed its sockets: within 10 ms (docs/facts/envoy.md), later where
 * one gets no CPU.
 */
const CLOSE_SETTLES_MS = 30;
const CLOSE_LIMIT_MS = 5_000;
/**
 * `drain-until: requests` must hold for this many polls while connections are open: a request may be just
 * between two gauges.
 */
const CALM_POLLS = 3;
const UNKNOWN = { busy: Number.POSITIVE_INFINITY, open: Number.POSITIVE_INFINITY };
/** How long an Envoy that does not answer is asked to pass its health check again. */
const PASS_HEALTH_LIMIT_MS = 10_000;

interface DrainRunOptions {
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
}

/** Creates the steps of one drain, new or taken over: `record` says what has been done. */
export function createDrainRun(
  options: DrainRunOptions,
): DrainSteps & { enter(phase: DrainPhase): DrainRecord; confirm(): void } {
  const drain = openDrain(options);
  const { course, envoys } = drain;
  const { record } = course;
  return {
    command: options.command,
    get phase() {
      return record.phase;
    },
    startedAt: record.startedAt,
    timeLeftMs: course.timeLeftMs,
    get connectionsAtStart() {
      return record.connectionsAtStart;
    },
    get connectionsLeft() {
      return course.left;
    },
    get outcome() {
      return course.outcome;
    },
    get isOvertaken() {
      return course.isOvertaken;
    },
    lastError: envoys.lastError,

    enter: (phase) => {
      if (record.steps.at(-1)?.phase !== phase)
        record.steps = [...record.steps, { phase, at: new Date().toISOString() }];
      record.phase = phase;
      if (phase === 'delay') record.delayStartedAtMs ??= options.clock.nowMs();
      return { ...record };
    },
    confirm: course.confirm,
    failHealth: () => failHealth(drain),
    delay: () => delay(drain),
    close: () => close(drain),
    passHealth: () => passHealth(drain),
    wait: () => wait(drain),
  };
}

/** A drain without its steps: a hook of a user's plugin must not close a listener. */
export function readOnlyProgress(drain: DrainRun): DrainRun {
  return Object.freeze({
    command: drain.command,
    get phase() {
      return drain.phase;
    },
    startedAt: drain.startedAt,
    timeLeftMs: () => drain.timeLeftMs(),
    get connectionsAtStart() {
      return drain.connectionsAtStart;
    },
    get connectionsLeft() {
      return drain.connectionsLeft;
    },
    get outcome() {
      return drain.outcome;
    },
    get isOvertaken() {
      return drain.isOvertaken;
    },
    lastError: () => drain.lastError(),
  });
}

/** What the steps of one drain work on. */
interface Drain extends DrainRunOptions {
  readonly course: Course;
  readonly envoys: Envoys;
  /** HTTP/3 can't be steered: its connections would keep new ones from the newer generation. */
  readonly quicIsLast: boolean;
  /** Egress stays open until no request needs it any more. */
  readonly inboundFirst: boolean;
  hasClosed: boolean;
  /** One that could not be told to close its listeners, or refused, takes connections still. */
  closing: Told;
}

function openDrain(options: DrainRunOptions): Drain {
  const { command, targets, config, clock, log, lookAtHost, isLeader = () => true } = options;
  const record = { ...options.record };
  const quicIsLast = command === 'handover' && targets.some((one) => one.quicIsLast);
  const isKnown = ({ process }: EnvoyTarget): boolean =>
    lookAtHost === undefined || record.envoys.some((one) => sameProcess(one, process));
  const envoys = createEnvoys({
    // The others count as come meanwhile: no one may have told them yet.
    targets: targets.filter(isKnown),
    rule: { ...config, ...(quicIsLast ? { drainUntil: 'requests' } : {}) },
    deadlineMs: record.deadlineMs,
    clock,
    log,
    counters: options.counters,
    isLeader,
  });
  return {
    ...options,
    course: createCourse({ ...options, record, envoys, isLeader, lookAtHost }),
    envoys,
    quicIsLast,
    inboundFirst: command === 'shutdown' && config.drainListeners === 'inbound',
    hasClosed: false,
    closing: 'done',
  };
}

async function failHealth({ course, envoys }: Drain): Promise<void> {
  if (course.isOver()) return;
  await envoys.tellAll(
    'fail its health check',
    (admin, signal) => admin.failHealthCheck(signal),
    course.isOver,
  );
  if (!course.isOver()) await lookAtStart(course);
}

async function delay(drain: Drain): Promise<void> {
  const { course, envoys, config, clock, log } = drain;
  const { record, pacing } = course;
  const startMs = record.delayStartedAtMs ?? clock.nowMs();
  const endMs = Math.min(startMs + config.checkDelayMs, record.deadlineMs);
  let known: number | undefined;
  let quietSinceMs = startMs;
  while (!course.isOver() && clock.nowMs() < endMs) {
    await greet(drain);
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
    await course.rest(Math.min(paceMs, endMs - clock.nowMs()));
  }
}

async function close(drain: Drain): Promise<void> {
  const { command, course, envoys, config, clock, log, targets } = drain;
  const { isOver, timeLeftMs } = course;
  if (isOver()) return;
  await envoys.forgetReplaced();
  await greet(drain);
  if (isOver()) return;
  await lookAtStart(course);
  if (command === 'shutdown' && drain.ledger.decide('close') === 'cancel') {
    course.outcome = 'cancelled';
    return;
  }
  drain.hasClosed = true;
  if (drain.quicIsLast) {
    await closeTcpFirst({ envoys, isOver, timeLeftMs, clock, ...config });
  } else {
    // The failed health check of a shutdown does not ask clients of listeners with drain_type MODIFY_ONLY.
    await envoys.tellAll('ask its clients to leave', (admin, signal) =>
      drain.inboundFirst ? admin.askInboundToLeave(signal) : admin.askClientsToLeave(signal),
    );
  }
  if (command === 'handover') {
    await untilUdpIsQuiet({ targets, isOver, timeLeftMs, clock, log });
  }
  drain.closing = await closeThose(drain);
  await course.rest(CLOSE_SETTLES_MS);
  await untilClosed(drain);
}

async function wait(drain: Drain): Promise<void> {
  const { course, config } = drain;
  const { isOver, pacing, rest } = course;
  // HTTP/3 connections that are idle would keep new ones from the newer generation.
  const byRequests = config.drainUntil === 'requests' || drain.quicIsLast;
  if (drain.inboundFirst) await closeOutboundLast(drain);
  let calm = 0;
  // Who led before may have got no further.
  if (!drain.hasClosed) {
    drain.closing = await closeThose(drain, isOver);
    await untilClosed(drain);
  }
  drain.hasClosed = true;
  while (!isOver()) {
    await greet(drain);
    const sample = await course.look();
    if (isOver()) return;
    if (drain.closing === 'late') drain.closing = await closeThose(drain, () => true);
    const goal = sample.kind === 'known' ? (byRequests ? sample.busy : sample.open) : Infinity;
    calm = goal <= config.minOpenConnections ? calm + 1 : 0;
    const isIdle = byRequests && course.left !== null && course.left > config.minOpenConnections;
    if (calm >= (isIdle ? CALM_POLLS : 1)) {
      course.lookAround();
      if (isOver()) return;
      course.outcome = outcomeOfCalm(drain);
      if (!course.outcome) await rest(config.checkIntervalMinMs);
    } else if (course.timeLeftMs() === 0) {
      course.outcome = sample.kind === 'unknown' ? 'admin-unreachable' : 'timeout';
    } else {
      const toGo = Number.isFinite(goal) ? goal - config.minOpenConnections : 0;
      // Files tell of connections; whether a request has ended they don't.
      if (sample.kind !== 'known') await restUnlessOneGoes(drain, pacing.delayMs(toGo));
      else if (byRequests) await rest(pacing.delayMs(toGo));
      else await pacing.restUntilDue(toGo);
    }
  }
}

/** Until the next try, or until an Envoy is gone: it may have been the one that did not answer. */
async function restUnlessOneGoes(drain: Drain, ms: number): Promise<void> {
  const { course, envoys, config, clock } = drain;
  const before = envoys.left();
  const endMs = clock.nowMs() + Math.min(ms, course.timeLeftMs());
  while (!course.isOver() && envoys.left() === before && clock.nowMs() < endMs) {
    await course.rest(Math.min(config.checkIntervalMinMs, endMs - clock.nowMs()));
  }
}

/** Few enough connections are left; undefined: that is not the end yet. */
function outcomeOfCalm({ course, closing }: Drain): DrainOutcome | undefined {
  if (course.isComplete() && closing === 'done') return 'drained';
  // It takes new connections for good, so nothing is left to wait for.
  if (course.isComplete() && closing === 'refused') return 'admin-unreachable';
  if (course.timeLeftMs() > 0) return undefined;
  return closing === 'done' ? 'timeout' : 'admin-unreachable';
}

async function passHealth({ course, envoys, ledger, clock }: Drain): Promise<void> {
  const endMs = clock.nowMs() + PASS_HEALTH_LIMIT_MS;
  // Another drain may begin at any moment. It has its record before it fails the health check.
  const isSucceeded = (): boolean => ledger.hasLater(course.record.number);
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
    await envoys.tellAll('fail its health check', (admin, signal) => admin.failHealthCheck(signal));
    return;
  }
  if (passed === 0 || passed < envoys.left()) {
    throw new Error(`Envoy does not pass its health check again: ${envoys.lastError()}`);
  }
}

async function lookAtStart(course: Course): Promise<void> {
  const { record } = course;
  if (record.connectionsAtStart !== null || course.timeLeftMs() === 0) return;
  await course.look();
  record.connectionsAtStart = course.left;
}

/** Brings those that came meanwhile to where the drain is. */
async function greet(drain: Drain): Promise<void> {
  const { course, envoys, log } = drain;
  const { record, isOver } = course;
  const fresh = course.takeNewcomers();
  if (fresh.length === 0 || isOver()) return;
  const known = fresh.flatMap(({ process }) => process ?? []);
  record.envoys = [...record.envoys, ...known];
  drain.onChange?.({ ...record });
  log.info(`${fresh.map(({ name }) => name).join(', ')} came up meanwhile: draining it too`);
  await envoys.tellAll(
    'fail its health check',
    (admin, signal) => admin.failHealthCheck(signal),
    isOver,
    fresh,
  );
  if (!drain.hasClosed || isOver()) return;
  drain.closing = worstOf([drain.closing, await closeThose(drain, isOver, fresh)]);
  await course.rest(CLOSE_SETTLES_MS);
  await untilClosed(drain);
}

function closeThose(
  { envoys, inboundFirst }: Drain,
  over?: () => boolean,
  only?: readonly EnvoyTarget[],
): Promise<Told> {
  return envoys.tellAll(
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
}

/** Until then a client may still be accepted, or reset in an accept queue. */
async function untilClosed({ course, envoys, closing, inboundFirst, clock }: Drain): Promise<void> {
  if (closing !== 'done' || inboundFirst) return;
  const endMs = clock.nowMs() + CLOSE_LIMIT_MS;
  const signal = AbortSignal.timeout(CLOSE_LIMIT_MS);
  while (!course.isOver() && course.timeLeftMs() > 0 && clock.nowMs() < endMs) {
    const askedMs = clock.nowMs();
    if (!(await envoys.anyOpen(signal))) return;
    // An Envoy that is slow to answer has little time for its listeners as well.
    const nowMs = clock.nowMs();
    await course.rest(Math.min(Math.max(CLOSE_SETTLES_MS, 4 * (nowMs - askedMs)), endMs - nowMs));
  }
}

/** Egress stays open until no request needs it any more. Idempotent: a process that takes over does it again. */
async function closeOutboundLast(drain: Drain): Promise<void> {
  const { course, envoys, config } = drain;
  const { isOver, pacing } = course;
  while (!isOver() && course.timeLeftMs() > 0) {
    const sample = await course.look();
    const open = await envoys.openInbound();
    const { busy, open: all } = sample.kind === 'known' ? sample : UNKNOWN;
    const goal = config.drainUntil === 'requests' ? busy : (open ?? all);
    if (goal <= config.minOpenConnections) break;
    await course.rest(pacing.delayMs(Number.isFinite(goal) ? goal : 0));
  }
  if (isOver()) return;
  await envoys.tellAll('ask its clients to leave', (admin, signal) =>
    admin.askClientsToLeave(signal),
  );
  drain.closing = await envoys.tellAll('close its listeners', (admin, signal) =>
    unlessClosed(admin, signal, admin.closeListeners(signal)),
  );
  await course.rest(CLOSE_SETTLES_MS);
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
