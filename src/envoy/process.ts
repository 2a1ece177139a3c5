import { type ChildProcess, spawn } from 'node:child_process';
import { type Clock, systemClock, until } from '../clock.js';
import { messageOf, Pm2EnvoyError } from '../errors.js';
import { startEndedFirst } from '../host/memory.js';
import { findInGroup, groupOf, membersOf, signalGroup } from '../host/process-group.js';
import {
  identify,
  isAlive,
  type ProcessIdentity,
  signalProcess,
} from '../host/process-identity.js';

/** How an Envoy, or what started it, ended. */
export interface EnvoyExit {
  /** Undefined for one that was not our child: no one tells us. */
  code: number | null | undefined;
  signal: NodeJS.Signals | null | undefined;
  /** Only the wrapper has ended that `envoy-bin` is; Envoy itself goes on. */
  serves?: true;
}

/** An Envoy that this process watches. */
export interface EnvoyProcess {
  readonly identity: ProcessIdentity;
  /** Resolves when it has ended; never rejects. */
  readonly exited: Promise<EnvoyExit>;
}

/** An Envoy with 10,000 clusters takes 1.4 s to end (docs/facts/envoy.md, signals and exit). */
const TERM_LIMIT_MS = 10_000;
const KILL_LIMIT_MS = 5_000;
const WATCH_MS = 250;

/** Longest time that {@link terminateEnvoy} takes. */
export const TERMINATE_LIMIT_MS: number = TERM_LIMIT_MS + KILL_LIMIT_MS;

/**
 * Starts Envoy in a process group (and session) of its own: Ctrl-C in a terminal, and an init that
 * forwards signals to the group, must not reach it. It is the one to go when memory runs out, until
 * `endLikeThis` (host/memory.ts).
 *
 * @throws Pm2EnvoyError `envoy-start-failed`
 */
export async function startEnvoy(
  binary: string,
  args: readonly string[],
  stdio: [number | 'inherit', number | 'inherit'],
): Promise<EnvoyProcess> {
  const child = startEndedFirst(() =>
    spawn(binary, args, {
      detached: true,
      stdio: ['ignore', ...stdio],
      env: childEnvironment(),
    }),
  );
  const exited = exitOf(child);
  try {
    await new Promise((resolve, reject) => child.once('spawn', resolve).once('error', reject));
  } catch (error) {
    throw new Pm2EnvoyError(
      'envoy-start-failed',
      `${binary} can't be started: ${messageOf(error)}`,
      {
        cause: error,
      },
    );
  }
  const identity = identify(child.pid ?? 0);
  if (!identity) {
    // A script may have left an Envoy behind.
    if (child.pid) await terminateEnvoy({ pid: child.pid, startTime: 'gone' }, child.pid);
    throw new Pm2EnvoyError(
      'envoy-start-failed',
      `${binary} exited immediately: ${describeExit(await exited)}`,
    );
  }
  return { identity, exited };
}

/**
 * Our environment without the shutdown token, which may be among what `pm2 set` has set too, for whatever we start:
 * Envoy can print variables into its access log.
 */
export function childEnvironment(env: NodeJS.ProcessEnv = process.env): NodeJS.ProcessEnv {
  const { PM2_ENVOY_SHUTDOWN_TOKEN: _, 'pm2-envoy': __, ...rest } = env;
  return rest;
}

/** Watches an Envoy that is not our child. */
export function watchEnvoy(identity: ProcessIdentity, clock: Clock = systemClock): EnvoyProcess {
  const watch = async (): Promise<EnvoyExit> => {
    while (isAlive(identity)) await clock.sleep(WATCH_MS);
    return { code: undefined, signal: undefined };
  };
  return { identity, exited: watch() };
}

/**
 * The Envoy itself, where `envoy-bin` is a script that does not `exec`: its pid is watched from now on. It
 * counts as ended when either has.
 *
 * @param argument one that only this Envoy was started with
 */
export function behindWrapper(started: EnvoyProcess, argument: string): EnvoyProcess {
  const identity = findInGroup(started.identity.pid, argument) ?? started.identity;
  if (identity.pid === started.identity.pid) return started;
  const exited = Promise.race([started.exited, watchEnvoy(identity).exited]).then(async (exit) => {
    if (isAlive(identity)) return { ...exit, serves: true as const };
    // A wrapper that would start it again.
    await terminateEnvoy(started.identity);
    return exit;
  });
  return { identity, exited };
}

/**
 * Ends an Envoy, and what else is in its process group: where `envoy-bin` is a script that does not `exec`, the script.
 * SIGTERM, and SIGKILL when that does not help within 10 s. Resolves to whether all of it is gone, after 15 s at the
 * most. An Envoy that is gone already is no error.
 *
 * @param group its process group, where it may be gone and have left others
 */
export async function terminateEnvoy(
  identity: ProcessIdentity,
  group: number | undefined = groupOf(identity),
): Promise<boolean> {
  const members = (): ProcessIdentity[] =>
    (group === undefined ? [] : membersOf(group))
      .map(({ pid }) => identify(pid))
      .filter((member) => member !== undefined);
  const known = [identity, ...members()];
  /** Looks through all processes only once those that are known have ended. */
  const gone = (): true | undefined => {
    if (known.some(isAlive)) return undefined;
    known.push(...members());
    return known.some(isAlive) ? undefined : true;
  };
  for (const [signal, limitMs] of [
    ['SIGTERM', TERM_LIMIT_MS],
    ['SIGKILL', KILL_LIMIT_MS],
  ] as const) {
    if (gone()) return true;
    if (group === undefined) signalProcess(identity, signal);
    else signalGroup(group, signal);
    if (await until(gone, { everyMs: 10, limitMs })) return true;
  }
  return false;
}

/** `ended by SIGKILL`, `exited with code 1`. */
export function describeExit({ code, signal }: EnvoyExit): string {
  if (signal) return `ended by ${signal}`;
  return code === undefined || code === null ? 'ended' : `exited with code ${code}`;
}

function exitOf(child: ChildProcess): Promise<EnvoyExit> {
  return new Promise((resolve) => {
    child.once('exit', (code, signal) => resolve({ code, signal }));
    child.once('error', () => resolve({ code: null, signal: null }));
  });
}
