import type { Config } from '../config/config.js';
import { formatDuration } from '../config/duration.js';
import { createEnvoyLocator } from '../drain/locate.js';
import type { DrainOutcome, DrainResult } from '../drain/state.js';
import { findRunDir } from '../envoy/run-dir.js';
import { isPm2EnvoyError, messageOf, unreachable } from '../errors.js';
import { EXIT } from '../exit-codes.js';
import { createStatusReader, type Status } from '../manager/status.js';
import type { CliContext } from './context.js';
import { openDirectDrain } from './direct.js';
import { counted } from './io.js';
import { createManagerClient } from './manager-client.js';

/**
 * `pm2-envoy shutdown`: drains through the manager, or directly when it is down; blocks until the
 * drain has ended and resolves to its exit code.
 */
export async function runShutdown(cli: CliContext): Promise<number> {
  const { config } = cli.load();
  const result = await drainSomehow(cli, config);
  if (cli.json) cli.io.out(JSON.stringify(result));
  else cli.io.out(describeResult(result));
  if (result.outcome === 'drained' || result.outcome === 'timeout') {
    cli.io.note('Envoy takes no more connections; `pm2 restart envoy` brings up a new one.');
  }
  return exitCodeOfOutcome(result.outcome);
}

/** The exit code of an outcome (contract 7). */
export function exitCodeOfOutcome(outcome: DrainOutcome): number {
  switch (outcome) {
    case 'drained':
    case 'envoy-gone':
      return EXIT.done;
    case 'timeout':
      return EXIT.timeout;
    case 'cancelled':
      return EXIT.cancelled;
    case 'admin-unreachable':
      return EXIT.unreachable;
    default:
      return unreachable(outcome);
  }
}

async function drainSomehow(cli: CliContext, config: Config): Promise<DrainResult> {
  const manager = createManagerClient(config, findRunDir(config.runDir));
  const forget = cli.io.onInterrupt('the drain goes on; `pm2-envoy resume` takes it back');
  try {
    return await withProgress(cli, manager.shutdown(), manager.status);
  } catch (error) {
    if (!isPm2EnvoyError(error, 'manager-unreachable')) throw error;
    cli.io.note(`${error.message}: draining Envoy directly`);
    forget();
    return drainDirectly(cli, config);
  } finally {
    forget();
  }
}

async function drainDirectly(cli: CliContext, config: Config): Promise<DrainResult> {
  const { hostDrain, host, runDir, log } = await openDirectDrain(cli, config);
  // A connection of its own: the drain must not queue behind the progress display.
  const watch = createEnvoyLocator({ config, runDir, log });
  const status = createStatusReader({ config, locator: watch, hostDrain });
  const result = await withProgress(cli, hostDrain.drain(), status.read);
  await host.settled();
  return result;
}

const PROGRESS_MS = 500;

/** Shows where the drain is while it runs: a live line on a terminal, a line for each phase elsewhere. */
async function withProgress(
  cli: CliContext,
  drain: Promise<DrainResult>,
  status: (signal: AbortSignal) => Promise<Status>,
): Promise<DrainResult> {
  const over = new AbortController();
  let phase = '';
  const show = async (): Promise<void> => {
    try {
      const now = await status(over.signal);
      if (over.signal.aborted || now.phase === 'idle' || now.outcome !== null) return;
      if (cli.io.isTerminal) cli.io.live(describeProgress(now));
      else if (now.phase !== phase) cli.io.note(describeProgress(now));
      phase = now.phase;
    } catch (error) {
      if (!over.signal.aborted) cli.io.live(messageOf(error));
    }
  };
  const timer = setInterval(() => void show(), PROGRESS_MS);
  try {
    return await drain;
  } finally {
    clearInterval(timer);
    // An answer under way would keep the command from ending.
    over.abort();
  }
}

function describeProgress({ phase, connections, timeLeftMs }: Status): string {
  const open = connections
    ? `${counted(connections.open, 'connection')} open`
    : 'connections unknown';
  const left = formatDuration(Math.round((timeLeftMs ?? 0) / 1_000) * 1_000);
  return `${phase}: ${open}, at most ${left} left`;
}

function describeResult({ outcome, durationMs, connectionsLeft }: DrainResult): string {
  const left =
    connectionsLeft === null
      ? 'an unknown number of connections'
      : counted(connectionsLeft, 'connection');
  return `${outcome} after ${formatDuration(durationMs)}, ${left} left`;
}
