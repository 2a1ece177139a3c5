import { type ChildProcess, spawn } from 'node:child_process';
import { type Clock, systemClock, until } from '../clock.js';
import { messageOf, Pm2EnvoyError } from '../errors.js';
import {
  identify,
  isAlive,
  type ProcessIdentity,
  signalProcess,
} from '../host/process-identity.js';

/** How an Envoy ended. */
export interface EnvoyExit {
  /** Undefined for one that was not our child: nobody tells us. */
  code: number | null | undefined;
  signal: NodeJS.Signals | null | undefined;
}

/** An Envoy that this process watches. */
export interface EnvoyProcess {
  readonly identity: ProcessIdentity;
  /** Resolves when it has ended; never rejects. */
  readonly exited: Promise<EnvoyExit>;
}

/** An Envoy with 10,000 clusters takes 1.4 s to end (envoy-facts.md, signals and exit). */
const TERM_LIMIT_MS = 10_000;
const KILL_LIMIT_MS = 5_000;
const WATCH_MS = 250;

/** Longest time that {@link terminateEnvoy} takes. */
export const TERMINATE_LIMIT_MS: number = TERM_LIMIT_MS + KILL_LIMIT_MS;

/**
 * Starts Envoy in a process group (and session) of its own: Ctrl-C in a terminal, and an init that
 * forwards signals to the group, must not reach it.
 *
 * @throws Pm2EnvoyError `envoy-start-failed`
 */
export async function startEnvoy(
  binary: string,
  args: readonly string[],
  stdio: [number | 'inherit', number | 'inherit'],
): Promise<EnvoyProcess> {
  const child = spawn(binary, args, {
    detached: true,
    stdio: ['ignore', ...stdio],
    env: childEnvironment(),
  });
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
    throw new Pm2EnvoyError(
      'envoy-start-failed',
      `${binary} ended at once: ${describeExit(await exited)}`,
    );
  }
  return { identity, exited };
}

/**
 * Our environment without the shutdown token, for whatever we start: Envoy can print variables into its
 * access log.
 */
export function childEnvironment(env: NodeJS.ProcessEnv = process.env): NodeJS.ProcessEnv {
  const { PM2_ENVOY_SHUTDOWN_TOKEN: _, ...rest } = env;
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
 * Ends an Envoy: SIGTERM, and SIGKILL when that does not help within 10 s. Resolves to whether it is
 * gone, after 15 s at the most. An Envoy that is gone already is no error.
 */
export async function terminateEnvoy(identity: ProcessIdentity): Promise<boolean> {
  for (const [signal, limitMs] of [
    ['SIGTERM', TERM_LIMIT_MS],
    ['SIGKILL', KILL_LIMIT_MS],
  ] as const) {
    signalProcess(identity, signal);
    const gone = () => (isAlive(identity) ? undefined : true);
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
