import type { Clock } from '../clock.js';
import { systemClock } from '../clock.js';
import { ownIdentity } from '../envoy/process-identity.js';
import { messageOf } from '../errors.js';
import type { Log } from '../log.js';
import type { PluginHost } from '../plugins/types.js';
import type { EnvoyTarget } from './envoys.js';
import type { DrainLedger, DrainRecord } from './record.js';
import { createDrainRun, type DrainConfig, type DrainRun } from './run.js';
import {
  type DrainCommand,
  type DrainPhase,
  type DrainResult,
  type DrainState,
  eventsOf,
} from './state.js';

/** One drain: of the host (`shutdown`), or of an older generation (`handover`). */
export interface Drainer {
  /**
   * Starts the drain, or joins it, in this process or in another one. Never rejects; every call gets
   * the same result, and none is cut short by another.
   */
  drain(): Promise<DrainResult>;
  state(): DrainState;
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
  host: Pick<PluginHost, 'run'>;
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
      if (lead) return end(await leadDrain(record));
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

  const leadDrain = async (joined: DrainRecord): Promise<DrainResult> => {
    const run = createDrainRun({ command, record: joined, targets, config, clock, log });
    current = run;
    const enter = (event: string): void => {
      const record = run.enter(event as DrainPhase);
      state = { kind: 'draining', ...progressOf(record) };
      ledger.update(record);
      log.info({ command, phase: event, connections: run.connectionsLeft }, `${command}: ${event}`);
    };
    try {
      await host.run(command, { drain: run, from: joined.phase, onEvent: enter });
    } catch (error) {
      // Hooks can't throw in here: this is a fault of ours, and the caller still needs an outcome.
      log.error(`the drain failed: ${messageOf(error)}`);
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
    return result;
  };

  const end = (result: DrainResult): DrainResult => {
    state = { kind: 'ended', result };
    return result;
  };

  return {
    drain: () => {
      promise ??= begin();
      return promise;
    },
    state: () => state,
    current: () => current,
  };
}

function progressOf(record: DrainRecord): Omit<Extract<DrainState, { kind: 'draining' }>, 'kind'> {
  const { phase, startedAt, deadlineMs, connectionsAtStart } = record;
  return { phase, startedAt, deadlineMs, connectionsAtStart };
}

function logResult(command: DrainCommand, result: DrainResult, run: DrainRun, log: Log): void {
  const { outcome, durationMs, connectionsLeft } = result;
  const fine = outcome === 'drained' || outcome === 'envoy-gone';
  const message = `${command} ended: ${outcome} after ${durationMs} ms, connections left: ${connectionsLeft ?? 'unknown'}`;
  if (fine) log.info({ command, ...result }, message);
  else log.warn({ command, ...result, lastError: run.lastError() }, message);
}
