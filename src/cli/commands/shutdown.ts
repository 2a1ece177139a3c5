import type { Config } from '../../config/config.js';
import { formatDuration } from '../../config/duration.js';
import type { HostDrain } from '../../drain/host-drain.js';
import { createEnvoyLocator } from '../../drain/locate.js';
import {
  type DrainOutcome,
  type DrainPhase,
  type DrainResult,
  originOfCommand,
} from '../../drain/state.js';
import { isPm2EnvoyError, unreachable } from '../../errors.js';
import { EXIT } from '../../exit-codes.js';
import { findRunDir } from '../../host/run-dir.js';
import { userName } from '../../host/user.js';
import { createManagerClient, type ManagerClient } from '../../status/manager-client.js';
import { createStatusReader, type Status } from '../../status/status.js';
import type { CliContext } from '../terminal/context.js';
import { createDrainFollower, type DrainFollower } from '../view/progress.js';
import { counted } from '../view/words.js';
import { type DirectDrain, directSettings, openDirectDrain } from './direct.js';
import { refuseForeign } from './refuse-foreign.js';

/**
 * `pm2-envoy shutdown`: drains through the manager, or directly when it is down; blocks until the
 * drain has ended and resolves to its exit code.
 */
export async function runShutdown(cli: CliContext): Promise<number> {
  const { config } = cli.load();
  await refuseForeign(cli, 'not drained');
  const { result, seen } = await drainSomehow(cli, config);
  if (cli.json) cli.io.out(JSON.stringify(result));
  else cli.io.say(describeResult(result, seen), 'stdout');
  if (result.outcome === 'admin-unreachable' && seen?.lastError) cli.io.say(seen.lastError);
  if (result.outcome === 'drained' || result.outcome === 'timeout') {
    cli.io.say('Envoy accepts no more connections; `pm2-envoy redeploy` brings up a new one.');
  }
  return exitCodeOfOutcome(result.outcome);
}

/** The exit code of an outcome (docs/commands.md). */
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

/** `seen` is the last status of the drain; undefined: it was over before anyone looked. */
interface Drained {
  result: DrainResult;
  seen: Status | undefined;
}

async function drainSomehow(cli: CliContext, config: Config): Promise<Drained> {
  const progress = createDrainFollower(cli);
  const manager = createManagerClient(config, findRunDir(config.runDir));
  try {
    return await drainByManager(cli, manager, progress);
  } catch (error) {
    if (!isPm2EnvoyError(error, 'manager-unreachable')) throw error;
    const { config: used, env, whose } = await directSettings(cli);
    const [delay, timeout] = [used.checkDelayMs, used.drainTimeoutMs].map(formatDuration);
    cli.io.say(
      `${error.message}: draining Envoy directly, with check-delay ${delay} and drain-timeout ${timeout} of ${whose}`,
    );
    const direct = await openDirectDrain(cli, used, { hung: manager.hung(), env });
    return await drainDirectly(cli, { config: used, direct, progress });
  } finally {
    progress.close();
  }
}

async function drainByManager(
  cli: CliContext,
  manager: ManagerClient,
  progress: DrainFollower,
): Promise<Drained> {
  const forget = cli.io.onInterrupt(() => describeInterrupted(progress.latest()?.phase));
  sayWhatIsNotUsed(cli, manager);
  try {
    const result = await progress.follow(manager.shutdown(), manager.status);
    return withSeen(result, { progress, read: manager.status });
  } finally {
    forget();
  }
}

/** What a call needs to find the manager; with everything else, that one has its own. */
const TO_FIND_IT: readonly string[] = [
  ...['run-dir', 'serve-address', 'serve-port', 'admin-address'],
  ...['shutdown-token', 'shutdown-token-file', 'log-level', 'log-format'],
];

function sayWhatIsNotUsed(cli: CliContext, { url, status }: ManagerClient): void {
  const unused = Object.keys(cli.given.flags).filter((name) => !TO_FIND_IT.includes(name));
  if (unused.length === 0) return;
  const names = unused.map((name) => `--${name}`).join(', ');
  const text = `${names} ${unused.length === 1 ? 'is' : 'are'} not used: the manager at ${url} drains with its own settings`;
  status().then(
    () => cli.io.say(text),
    () => undefined,
  );
}

async function drainDirectly(
  cli: CliContext,
  parts: { config: Config; direct: DirectDrain; progress: DrainFollower },
): Promise<Drained> {
  const { config, direct, progress } = parts;
  const { hostDrain, host, runDir, log } = direct;
  // A connection of its own: the drain must not queue behind the progress display.
  const watch = createEnvoyLocator({ config, runDir, log });
  const status = createStatusReader({ config, locator: watch, hostDrain });
  const forget = cli.io.onInterrupt(() => {
    const phase = phaseOf(hostDrain);
    const isLed = hostDrain.current() !== undefined;
    return isLed
      ? describeLeft({ phase, isRecorded: direct.isRecorded() })
      : describeInterrupted(phase);
  });
  try {
    const result = await progress.follow(hostDrain.drain(originOfCommand(userName())), status.read);
    progress.close();
    await host.settled();
    return withSeen(result, { progress, read: status.read });
  } finally {
    forget();
  }
}

/** Why Envoy could not be drained is known only at the end. */
async function withSeen(
  result: DrainResult,
  look: { progress: DrainFollower; read: () => Promise<Status> },
): Promise<Drained> {
  const seen = look.progress.latest();
  if (result.outcome !== 'admin-unreachable') return { result, seen };
  return { result, seen: await look.read().catch(() => seen) };
}

function phaseOf(hostDrain: HostDrain): DrainPhase | undefined {
  const state = hostDrain.state(undefined);
  return state.kind === 'draining' ? state.phase : undefined;
}

/** Another process leads the drain: nothing depends on this one. */
function describeInterrupted(phase: Status['phase'] | undefined): string {
  return canBeTakenBack(phase)
    ? 'the drain continues; `pm2-envoy resume` cancels it'
    : `the drain continues; ${TOO_LATE}; \`pm2-envoy status --watch\` shows it`;
}

/** This process led the drain, and the manager is down: no one does now. */
function describeLeft(drain: { phase: Status['phase'] | undefined; isRecorded: boolean }): string {
  const next = drain.isRecorded
    ? '`pm2-envoy shutdown`, or the manager once it is back, continues it, to the same deadline'
    : '`pm2-envoy shutdown` starts a new one: this drain could not be recorded';
  const back = canBeTakenBack(drain.phase) ? '`pm2-envoy resume` cancels it' : TOO_LATE;
  return `no process continues the drain now, and Envoy stays DRAINING: ${next}; ${back}`;
}

const TOO_LATE = 'Envoy’s listeners are closed, so it can’t be cancelled';

const BEFORE_CLOSE: readonly Status['phase'][] = ['idle', 'fail-health', 'delay'];

function canBeTakenBack(phase: Status['phase'] | undefined): boolean {
  return phase === undefined || BEFORE_CLOSE.includes(phase);
}

/**
 * How a drain ended, in one sentence.
 *
 * @param seen the last status of it that was read; undefined: none
 */
export function describeResult(result: DrainResult, seen: Status | undefined): string {
  const { outcome, durationMs, connectionsLeft } = result;
  const took = `${outcome} after ${formatDuration(durationMs)}`;
  if (outcome === 'drained' && seen?.settings.drainUntil === 'requests' && connectionsLeft) {
    return `${took}, 0 requests left; ${counted(connectionsLeft, 'idle connection')} close${connectionsLeft === 1 ? 's' : ''} when Envoy stops`;
  }
  const left =
    connectionsLeft === null
      ? 'an unknown number of connections'
      : counted(connectionsLeft, 'connection');
  const cut = outcome === 'envoy-gone' ? cutByEnd(result, seen) : '';
  return `${took}, ${left} left${cut}`;
}

/** None is left of an Envoy that has ended; when it did so, no one counted. */
function cutByEnd({ connectionsAtStart }: DrainResult, seen: Status | undefined): string {
  const known = seen?.connections;
  const open = known ? known.open : connectionsAtStart;
  if (!open) return '';
  const were = `${counted(open, 'connection')} ${open === 1 ? 'was' : 'were'} open`;
  const when = known ? 'at the last look' : 'when the drain began';
  return `; ${were} ${when}, and any that was still open when Envoy ended was cut`;
}
