import { isDeepStrictEqual } from 'node:util';
import type { Clock } from '../clock.js';
import { systemClock } from '../clock.js';
import { messageOf } from '../errors.js';
import { isAlive, ownIdentity, sameProcess } from '../host/process-identity.js';
import type { Log } from '../log.js';
import type { Counters } from './count.js';
import type { EnvoyTarget } from './envoys.js';
import type { HostNow } from './host-now.js';
import type { DrainLifecycle } from './lifecycle.js';
import type { DrainLedger, DrainRecord } from './record.js';
import { createDrainRun, type DrainConfig, type DrainRun } from './run.js';
import {
  type DrainCommand,
  type DrainCourse,
  type DrainOrigin,
  type DrainPhase,
  type DrainResult,
  type DrainState,
  eventsOf,
  type ResumeResult,
} from './state.js';
import { hasClosed } from './witness.js';

/** One drain: of the host (`shutdown`), or of an older generation (`handover`). */
export interface Drainer {
  /**
   * Starts the drain, or joins it, in this process or in another one. Never rejects; every call gets
   * the same result, and none is cut short by another.
   */
  drain(): Promise<DrainResult>;
  state(): DrainState;
  /** The record of the drain, as this process knows it; undefined before it has begun. */
  record(): DrainRecord | undefined;
  /** Makes sure that the drain can't be cancelled any more; false: it just was. */
  makeFinal(): boolean;
  /** Cancels the drain while that can be done, and has Envoy pass its health check again. */
  resume(): Promise<ResumeResult>;
  /** Records a drain that has ended here and could not be recorded, if that is possible now. */
  recordLate(): void;
  /** The drain's own view, while this process leads it. */
  current(): DrainRun | undefined;
}

/** How often a follower looks at the record. */
const FOLLOW_MS = 50;

interface DrainerOptions {
  command: DrainCommand;
  targets: readonly EnvoyTarget[];
  ledger: DrainLedger;
  config: DrainConfig;
  host: DrainLifecycle;
  log: Log;
  /** Shared with all other code that counts in this process. */
  counters?: Counters | undefined;
  clock?: Clock;
  /** Whether a recorded drain is about the Envoy in service; unless given, it is. */
  applies?: (record: DrainRecord) => boolean;
  /** Who begins it, if this process does. */
  startedBy?: DrainOrigin | undefined;
  /** Looks at the host again; see {@link createDrainRun}. */
  now?: ((record: DrainRecord) => HostNow) | undefined;
  /** Longest time for the drain where something else bounds it (pm2's kill_timeout). */
  limitMs?: number | undefined;
}

/** Creates the drain of the given Envoys; `ledger` is where other processes see it. */
export function createDrainer(options: DrainerOptions): Drainer {
  const { command, ledger, log, clock = systemClock } = options;
  const known: Known = { state: { kind: 'idle' }, record: undefined, current: undefined };
  let promise: Promise<DrainResult> | undefined;

  const begin = async (): Promise<DrainResult> => {
    const fresh = newRecord({ ...options, clock });
    for (;;) {
      const { record, lead } = ledger.claim(fresh, clock.nowMs());
      known.record = record;
      if (record.result) return end(record.result);
      known.state = { kind: 'draining', ...progressOf(record) };
      const result = lead ? await leadDrain(record, { ...options, clock }, known) : undefined;
      if (result) return end(result);
      await clock.sleep(FOLLOW_MS);
    }
  };
  const end = (result: DrainResult): DrainResult => {
    // Who followed knows the course from what was recorded last.
    const written = ledger.read();
    // Where it could not be recorded, the newest record is of another drain.
    const isWritten = written !== undefined && written.startedAtMs === known.record?.startedAtMs;
    known.record = isWritten ? written : known.record && { ...known.record, result };
    known.state = { kind: 'ended', result, ...(known.record ? courseOf(known.record) : {}) };
    return result;
  };
  const drain = (): Promise<DrainResult> => {
    promise ??= begin();
    return promise;
  };

  return {
    drain,
    resume: () => resume({ ...options, clock, known, drain }),
    record: () => known.record,
    makeFinal: () => ledger.decide('close') === 'close',
    state: () => known.state,
    current: () => known.current,
    recordLate: () => {
      const { state, record } = known;
      if (state.kind !== 'ended' || !record || !sameProcess(record.leader, ownIdentity())) return;
      const written = ledger.read();
      if (written?.startedAtMs === record.startedAtMs && written.result) return;
      if (!ledger.isWritable()) return;
      ledger.update(record);
      ledger.finish(record, state.result);
      log.info(`${command}: the drain of ${record.startedAt} is recorded now`);
    },
  };
}

/** A drain as this process knows it. */
interface Known {
  state: DrainState;
  record: DrainRecord | undefined;
  /** While this process leads it. */
  current: DrainRun | undefined;
}

/** Undefined: another process has taken over meanwhile, and knows better how it ends. */
async function leadDrain(
  joined: DrainRecord,
  options: DrainerOptions & { clock: Clock },
  known: Known,
): Promise<DrainResult | undefined> {
  const { command, ledger, clock, host, log, now } = options;
  const isLeader = (): boolean => ledger.isLeader(joined);
  const keep = (record: DrainRecord): void => {
    known.record = record;
    known.state = { kind: 'draining', ...progressOf(record) };
    ledger.update(record);
  };
  const run = createDrainRun({
    ...options,
    record: joined,
    isLeader,
    lookAtHost: now && (() => now(joined)),
    onChange: keep,
  });
  known.current = run;
  const enter = (event: string): void => {
    if (!isLeader()) throw new Error('another process leads');
    keep(run.enter(event as DrainPhase));
    log.info({ command, phase: event, connections: run.connectionsLeft }, `${command}: ${event}`);
  };
  try {
    // Who led before died between the last event and the result: only Envoy knows how it ended.
    if (joined.phase === 'finish') await run.wait();
    await host.run(command, {
      drain: run,
      from: joined.phase,
      onEvent: enter,
      skips: (event) => run.outcome === 'cancelled' && event !== 'finish',
    });
    // Hooks may have taken their time.
    run.confirm();
    // Where another generation serves, the old one is being handed over from: nothing is resumed.
    if (run.outcome === 'cancelled' && !run.isOvertaken) await host.run('resume', { drain: run });
  } catch (error) {
    // Hooks can't throw in here: otherwise this is a fault of ours, and the caller needs an outcome.
    if (isLeader()) log.error(`the drain failed: ${messageOf(error)}`);
  }
  if (!isLeader()) {
    known.current = undefined;
    log.info(`${command}: another process has taken over`);
    return undefined;
  }
  const result = resultOf(run, clock.nowMs() - joined.startedAtMs);
  const held = ledger.finish(run.enter(run.phase), result);
  if (held !== result && !isDeepStrictEqual(held, result)) return held;
  logResult(command, result, run, log);
  return result;
}

function resultOf(run: DrainRun, tookMs: number): DrainResult {
  return {
    outcome: run.outcome ?? 'admin-unreachable',
    phase: run.phase,
    startedAt: run.startedAt,
    durationMs: Math.round(tookMs),
    connectionsAtStart: run.connectionsAtStart,
    connectionsLeft: run.connectionsLeft,
  };
}

/** A drain that begins now. */
function newRecord(options: DrainerOptions & { clock: Clock }): DrainRecord {
  const { command, targets, config, clock } = options;
  const startedAtMs = clock.nowMs();
  const limitMs = Math.min(config.drainTimeoutMs, options.limitMs ?? config.drainTimeoutMs);
  return {
    phase: eventsOf(command)[0] ?? 'finish',
    startedAt: new Date().toISOString(),
    startedAtMs,
    deadlineMs: startedAtMs + limitMs,
    connectionsAtStart: null,
    leader: ownIdentity(),
    number: 0,
    term: 1,
    envoys: targets.flatMap(({ process }) => process ?? []),
    steps: [],
    checkDelayMs: command === 'shutdown' ? config.checkDelayMs : null,
    startedBy: options.startedBy ?? { kind: 'unknown' },
  };
}

/** A drain that is to be cancelled. */
interface Cancelling extends DrainerOptions {
  clock: Clock;
  known: Known;
  drain(): Promise<DrainResult>;
}

/** Undefined: nothing stands against passing the health check again. */
async function cancel(from: Cancelling): Promise<DrainResult | ResumeResult | undefined> {
  const { ledger, known, drain } = from;
  const found = ledger.read();
  const record = found && (from.applies?.(found) ?? true) ? found : undefined;
  const isOwn = known.state.kind === 'draining';
  if (!isOwn && (!record || record.result?.outcome === 'cancelled')) return undefined;
  if (record?.result) return tooLate(`the drain has ended: ${record.result.outcome}`);
  const decision = ledger.decide('cancel');
  if (decision === 'close') return tooLate('Envoy’s listeners are closed, or it is being stopped');
  if (decision === undefined) return unreachable(UNWRITABLE);
  const cancelled = await drain();
  return cancelled.outcome === 'cancelled' ? cancelled : tooLate(`it ended: ${cancelled.outcome}`);
}

async function resume(from: Cancelling, triesLeft = 3): Promise<ResumeResult> {
  const { ledger, targets, host, known } = from;
  if (await anyClosed(targets)) return tooLate(CLOSED);
  const seen = ledger.read()?.number ?? 0;
  const stopped = await cancel(from);
  if (stopped && 'kind' in stopped) return stopped;
  const before = await stateOf(targets);
  // A drain that has begun after the one that was cancelled is another wish.
  const number = (stopped && known.record?.number) ?? seen;
  if (ledger.hasLater(number)) {
    if (stopped) return { kind: 'resumed', drain: stopped };
    return triesLeft > 0 ? resume(from, triesLeft - 1) : tooLate('drains begin again and again');
  }
  if (before.includes('DRAINING')) {
    // A drain that could not be recorded would go on.
    if (!stopped && !ledger.isWritable()) return unreachable(UNWRITABLE);
    const record = { ...newRecord(from), number };
    const { command, config, clock, log } = from;
    const run = createDrainRun({ command, record, ledger, targets, config, clock, log });
    await host.run('resume', { drain: run });
  } else if (!stopped && before.every((word) => word === 'LIVE')) {
    return { kind: 'nothing' };
  }
  const now = await stateOf(targets);
  if (ledger.hasLater(number)) return { kind: 'resumed', drain: stopped ?? null };
  if (!now.every((word) => word === 'LIVE')) return unreachable(`Envoy is ${now.join(', ')}`);
  if (await anyClosed(targets)) return tooLate(CLOSED);
  return { kind: 'resumed', drain: stopped ?? null };
}

function tooLate(reason: string): ResumeResult {
  return { kind: 'too-late', reason };
}

function unreachable(reason: string): ResumeResult {
  return { kind: 'unreachable', reason };
}

/** An Envoy that does not answer is asked for long enough to pass its health check. */
const WITNESS_LIMIT_MS = 1_000;
const CLOSED = 'Envoy’s listeners are closed';
const UNWRITABLE =
  'the run directory can’t be written, so a drain that another process leads would continue: free space or make it writable, and resume again';

/** Those that serve, or did; one that is starting has no listeners yet, and may never be LIVE. */
function servingOf(targets: readonly EnvoyTarget[]): EnvoyTarget[] {
  return targets.filter(
    ({ process, generation }) => generation?.ready !== false && (!process || isAlive(process)),
  );
}

/** Whether one has closed its listeners, no matter which process asked it to: that can't be undone. */
async function anyClosed(targets: readonly EnvoyTarget[]): Promise<boolean> {
  const closed = await Promise.all(
    servingOf(targets).map((target) =>
      hasClosed(target, AbortSignal.timeout(WITNESS_LIMIT_MS)).catch(() => false),
    ),
  );
  return closed.includes(true);
}

/** What each Envoy that still exists says of itself. */
async function stateOf(targets: readonly EnvoyTarget[]): Promise<string[]> {
  const living = servingOf(targets);
  return Promise.all(
    living.map(({ admin }) => admin.state().catch((error: unknown) => messageOf(error))),
  );
}

/** What a state has of a drain under way. */
export function progressOf(
  record: DrainRecord,
): Omit<Extract<DrainState, { kind: 'draining' }>, 'kind'> {
  const { phase, startedAt, deadlineMs, connectionsAtStart } = record;
  return { phase, startedAt, deadlineMs, connectionsAtStart, ...courseOf(record) };
}

/** What a state keeps of a record's course. */
export function courseOf({ steps, checkDelayMs, startedBy }: DrainCourse): DrainCourse {
  return { steps, checkDelayMs, startedBy };
}

function logResult(command: DrainCommand, result: DrainResult, run: DrainRun, log: Log): void {
  const { outcome, durationMs, connectionsLeft } = result;
  const fine = outcome === 'drained' || outcome === 'envoy-gone' || outcome === 'cancelled';
  const message = `${command} ended: ${outcome} after ${durationMs} ms, connections left: ${connectionsLeft ?? 'unknown'}`;
  if (fine) log.info({ command, ...result }, message);
  else log.warn({ command, ...result, lastError: run.lastError() }, message);
}
