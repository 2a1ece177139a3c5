import type { Clock } from '../clock.js';
import { systemClock } from '../clock.js';
import { messageOf } from '../errors.js';
import { isAlive, ownIdentity } from '../host/process-identity.js';
import type { Log } from '../log.js';
import type { EnvoyTarget } from './envoys.js';
import type { DrainLifecycle } from './lifecycle.js';
import type { DrainLedger, DrainRecord } from './record.js';
import { createDrainRun, type DrainConfig, type DrainRun } from './run.js';
import {
  type DrainCommand,
  type DrainPhase,
  type DrainResult,
  type DrainState,
  eventsOf,
  type ResumeResult,
} from './state.js';

/** One drain: of the host (`shutdown`), or of an older generation (`handover`). */
export interface Drainer {
  /**
   * Starts the drain, or joins it, in this process or in another one. Never rejects; every call gets
   * the same result, and none is cut short by another.
   */
  drain(): Promise<DrainResult>;
  state(): DrainState;
  /** Makes sure that the drain can't be taken back any more; false: it just was. */
  makeFinal(): boolean;
  /** Takes the drain back while that can be done, and has Envoy pass its health check again. */
  resume(): Promise<ResumeResult>;
  /** The drain's own view, while this process leads it. */
  current(): DrainRun | undefined;
}

/** How often a follower looks at the record. */
const FOLLOW_MS = 50;

/** Creates the drain of the given Envoys; `ledger` is where other processes see it. */
export function createDrainer(options: {
  command: DrainCommand;
  targets: readonly EnvoyTarget[];
  ledger: DrainLedger;
  config: DrainConfig;
  host: DrainLifecycle;
  log: Log;
  clock?: Clock;
  /** Longest time for the drain where something else bounds it (pm2's kill_timeout). */
  limitMs?: number | undefined;
}): Drainer {
  const { command, targets, ledger, config, host, log, clock = systemClock } = options;
  let promise: Promise<DrainResult> | undefined;
  let state: DrainState = { kind: 'idle' };
  let current: DrainRun | undefined;

  const begin = async (): Promise<DrainResult> => {
    const fresh = newRecord();
    for (;;) {
      const { record, lead } = ledger.claim(fresh, clock.nowMs());
      if (record.result) return end(record.result);
      state = { kind: 'draining', ...progressOf(record) };
      const result = lead ? await leadDrain(record) : undefined;
      if (result) return end(result);
      await clock.sleep(FOLLOW_MS);
    }
  };

  const newRecord = (): DrainRecord => {
    const startedAtMs = clock.nowMs();
    const limitMs = Math.min(config.drainTimeoutMs, options.limitMs ?? config.drainTimeoutMs);
    return {
      phase: eventsOf(command)[0] ?? 'finish',
      startedAt: new Date().toISOString(),
      startedAtMs,
      deadlineMs: startedAtMs + limitMs,
      connectionsAtStart: null,
      leader: ownIdentity(),
    };
  };

  /** Undefined: another process has taken over meanwhile, and knows better how it ends. */
  const leadDrain = async (joined: DrainRecord): Promise<DrainResult | undefined> => {
    const isLeader = (): boolean => ledger.isLeader(joined, clock.nowMs());
    const run = createDrainRun({
      command,
      record: joined,
      ledger,
      targets,
      config,
      clock,
      log,
      isLeader,
    });
    current = run;
    const enter = (event: string): void => {
      if (!isLeader()) throw new Error('another process leads');
      const record = run.enter(event as DrainPhase);
      state = { kind: 'draining', ...progressOf(record) };
      ledger.update(record);
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
      if (run.outcome === 'cancelled') await host.run('resume', { drain: run });
    } catch (error) {
      // Hooks can't throw in here: otherwise this is a fault of ours, and the caller needs an outcome.
      if (isLeader()) log.error(`the drain failed: ${messageOf(error)}`);
    }
    if (!isLeader()) {
      current = undefined;
      log.info(`${command}: another process has taken over`);
      return undefined;
    }
    const result: DrainResult = {
      outcome: run.outcome ?? 'admin-unreachable',
      phase: run.phase,
      startedAt: run.startedAt,
      durationMs: Math.round(clock.nowMs() - joined.startedAtMs),
      connectionsAtStart: run.connectionsAtStart,
      connectionsLeft: run.connectionsLeft,
    };
    ledger.update({ ...run.enter(run.phase), result });
    logResult(command, result, run, log);
    const written = ledger.read();
    return (written?.startedAtMs === joined.startedAtMs && written.result) || result;
  };

  const drain = (): Promise<DrainResult> => {
    promise ??= begin();
    return promise;
  };

  const resume = async (): Promise<ResumeResult> => {
    const record = ledger.read();
    let cancelled: DrainResult | null = null;
    if (record && record.result?.outcome !== 'cancelled') {
      if (record.result) return tooLate(`the drain has ended: ${record.result.outcome}`);
      if (ledger.decide('cancel') === 'close') {
        return tooLate('Envoy’s listeners are closed, or it is being stopped');
      }
      cancelled = await drain();
      if (cancelled.outcome !== 'cancelled') return tooLate(`it ended: ${cancelled.outcome}`);
    }
    const before = await stateOf(targets);
    if (before.includes('DRAINING')) {
      const run = createDrainRun({
        command,
        record: newRecord(),
        ledger,
        targets,
        config,
        clock,
        log,
      });
      await host.run('resume', { drain: run });
    } else if (!cancelled && before.every((word) => word === 'LIVE')) {
      return { kind: 'nothing' };
    }
    const now = await stateOf(targets);
    if (now.every((word) => word === 'LIVE')) return { kind: 'resumed', drain: cancelled };
    return { kind: 'unreachable', reason: `Envoy is ${now.join(', ')}` };
  };

  const end = (result: DrainResult): DrainResult => {
    state = { kind: 'ended', result };
    return result;
  };

  return {
    drain,
    resume,
    makeFinal: () => ledger.decide('close') === 'close',
    state: () => state,
    current: () => current,
  };
}

function tooLate(reason: string): ResumeResult {
  return { kind: 'too-late', reason };
}

/** What each Envoy that still exists says of itself. */
async function stateOf(targets: readonly EnvoyTarget[]): Promise<string[]> {
  const living = targets.filter(({ process }) => !process || isAlive(process));
  return Promise.all(
    living.map(({ admin }) => admin.state().catch((error: unknown) => messageOf(error))),
  );
}

function progressOf(record: DrainRecord): Omit<Extract<DrainState, { kind: 'draining' }>, 'kind'> {
  const { phase, startedAt, deadlineMs, connectionsAtStart } = record;
  return { phase, startedAt, deadlineMs, connectionsAtStart };
}

function logResult(command: DrainCommand, result: DrainResult, run: DrainRun, log: Log): void {
  const { outcome, durationMs, connectionsLeft } = result;
  const fine = outcome === 'drained' || outcome === 'envoy-gone' || outcome === 'cancelled';
  const message = `${command} ended: ${outcome} after ${durationMs} ms, connections left: ${connectionsLeft ?? 'unknown'}`;
  if (fine) log.info({ command, ...result }, message);
  else log.warn({ command, ...result, lastError: run.lastError() }, message);
}
