import { realpathSync } from 'node:fs';
import { isAbsolute, join, relative, resolve } from 'node:path';
import type { Config } from '../config/config.js';
import { killTimeoutMs, longestDrainMs } from '../config/grace-period.js';
import { type ConfigSources, configVariables, loadConfig } from '../config/load.js';
import { isKey, variableOf } from '../config/schema.js';
import { Pm2EnvoyError } from '../errors.js';
import { EXIT } from '../exit-codes.js';
import { PACKAGE_ROOT } from '../package-root.js';
import { PROJECT_VARIABLE } from './project.js';
import { keepRuntimeExitCode } from './runtime-exit.js';

/** Options of the two apps; everything else is derived from pm2-envoy's configuration. */
export interface EnvoyAppsOptions {
  /**
   * Name of the app that runs Envoy, `envoy` by default; the manager's is `NAME-manager`. A second Envoy under one
   * pm2 needs another name, another run directory and another `serve-port`.
   */
  name?: string;
  /**
   * Working directory of the apps, to which relative paths in the configuration are relative. The shell's by default. A
   * link is not resolved: an app uses what it points to when the app is started.
   */
  cwd?: string;
  /**
   * Environment variables for both apps; `PM2_ENVOY_…` among them configure pm2-envoy. What is no text becomes
   * text, as Node makes it for any process.
   */
  env?: Readonly<Record<string, string | number | boolean | undefined>>;
}

/** An entry of a pm2 ecosystem file (pm2's own names). */
export interface Pm2App {
  name: string;
  script: string;
  cwd: string;
  exec_mode: 'cluster' | 'fork';
  instances?: number;
  wait_ready?: boolean;
  listen_timeout?: number;
  kill_timeout: number;
  treekill: false;
  pmx: false;
  exp_backoff_restart_delay: number;
  kill_retry_time: number;
  node_args: string[];
  disable_source_map_support: true;
  stop_exit_codes: number[];
  env: Record<string, string>;
}

/** pm2 signals the old runner at the latest after this time, whether or not the new one is ready. */
export const LISTEN_TIMEOUT_MS = 90_000;

/** A generation must be LIVE within this time; below {@link LISTEN_TIMEOUT_MS} with time to report it. */
export const LIVE_LIMIT_MS = 60_000;

/**
 * The two apps for a pm2 ecosystem file: `envoy` (the runner) and `envoy-manager`. With
 * `admin-address` set, pm2-envoy does not start Envoy, and there is only the manager.
 *
 * Reads the configuration as the apps will (environment, profile, file), so that `kill_timeout`
 * is derived from `drain-timeout`.
 *
 * Under pm2-runtime, which reads the file in its own process, it also makes a stop exit with 0.
 *
 * @throws Pm2EnvoyError `config-invalid`, also for an option that there is not
 */
export function envoyApps(options: EnvoyAppsOptions = {}): Pm2App[] {
  keepRuntimeExitCode();
  const { cwd, env, config, variables } = loadForApps(options);
  const { name = RUNNER } = options;
  if (!APP_NAME.test(name) || name === 'all') {
    throw refusal(
      `envoyApps: the name ${JSON.stringify(name)} is not allowed for a pm2 app: start with a letter, and use letters, digits, dots, dashes and underscores; pm2 takes "all" for every app`,
    );
  }
  const shared = {
    cwd,
    kill_timeout: killTimeoutMs(config),
    // Signalling children first would end Envoy immediately (docs/facts/pm2.md, layout V3).
    treekill: false as const,
    // pm2's injected module exits the process when the daemon dies.
    pmx: false as const,
    // The first of a row of crashes costs no more than that; each later one half as much again. Below 19 ms 16 of
    // them fit into the first 16 s, where pm2 gives up for good (its lib/God.js).
    exp_backoff_restart_delay: 20,
    // pm2 says 'failed to kill - retrying' that often while an app drains, ten times a second by default. It also
    // sees that much later that the app has ended.
    kill_retry_time: 500,
    // pm2 has Node load the source maps of every module otherwise: 10 MB.
    disable_source_map_support: true as const,
    node_args: nodeArguments(),
    env: { ...env, ...variables, [PROJECT_VARIABLE]: cwd },
  };
  const manager: Pm2App = {
    ...shared,
    name: `${name}-manager`,
    script: scriptPath('manager', cwd),
    exec_mode: 'fork',
    stop_exit_codes: [EXIT.configuration],
  };
  if (config.adminAddress) return [manager];
  const runner: Pm2App = {
    ...shared,
    name,
    script: scriptPath('runner', cwd),
    // Only cluster mode starts the new one first on a reload.
    exec_mode: 'cluster',
    instances: 1,
    wait_ready: true,
    listen_timeout: LISTEN_TIMEOUT_MS,
    stop_exit_codes: [EXIT.stoppedBeforeLive, EXIT.configuration],
  };
  return [runner, manager];
}

/** Name of the app that runs Envoy, where none is given. */
const RUNNER = 'envoy';
const APP_NAME = /^[A-Za-z][\w.-]*$/;

/** The configuration that the apps will have. */
export function loadForApps(options: EnvoyAppsOptions): {
  config: Config;
  cwd: string;
  /** The variables that the options give the apps. */
  env: Record<string, string>;
  /** Variables that the apps have to be given for the configuration. */
  variables: Record<string, string>;
} {
  refuseUnknown(options);
  const cwd = resolve(options.cwd ?? shellFolder());
  const given = Object.entries(options.env ?? {}).filter(([, value]) => value !== undefined);
  const own = Object.fromEntries(given.map(([name, value]) => [name, String(value)]));
  const env = { ...process.env, ...own };
  const sources: ConfigSources = { env, cwd };
  // A relative PM2_ENVOY_CONFIG of the shell was typed in the shell's folder, not in the ecosystem's.
  const isShells = own['PM2_ENVOY_CONFIG'] === undefined;
  const variables = configVariables(isShells ? { env } : sources);
  try {
    const { config } = loadConfig({ ...sources, configFile: variables['PM2_ENVOY_CONFIG'] });
    return { config, cwd, env: own, variables };
  } catch (error) {
    throw withoutStack(error);
  }
}

/** Most ecosystem files are JavaScript, which no compiler checks: what is ignored there would look like set. */
function refuseUnknown(options: object): void {
  const unknown = Object.keys(options).find((key) => !['name', 'cwd', 'env'].includes(key));
  if (unknown === undefined) return;
  const key = unknown.replaceAll(/[A-Z]/g, (capital) => `-${capital.toLowerCase()}`);
  const instead = isKey(key)
    ? `the setting ${key} is a variable: \`env: { ${variableOf(key)}: … }\``
    : 'a setting of pm2’s own goes into the apps that it returns: `envoyApps().map((app) => ({ ...app, time: true }))`';
  throw refusal(
    `envoyApps: ${JSON.stringify(unknown)} is no option, these are: name, cwd, env; ${instead}`,
  );
}

function refusal(message: string): unknown {
  return withoutStack(new Pm2EnvoyError('config-invalid', message));
}

/** As the shell names it: process.cwd() is what its links point to now. */
function shellFolder(): string {
  const { PWD: named } = process.env;
  return named && realPathOf(named) === process.cwd() ? named : process.cwd();
}

/**
 * The script of an app. If it is below the working directory, its path goes through that directory: when a link is
 * switched to another release, so is the script.
 */
function scriptOf(app: 'runner' | 'manager', cwd: string): string {
  const inside = relative(realPathOf(cwd) ?? cwd, PACKAGE_ROOT);
  const isInside = !inside.startsWith('..') && !isAbsolute(inside);
  return resolve(isInside ? join(cwd, inside) : PACKAGE_ROOT, `dist/apps/${app}.js`);
}

function realPathOf(path: string): string | undefined {
  try {
    return realpathSync(path);
  } catch {
    return undefined;
  }
}

/** Less memory: garbage is collected earlier, and JavaScript is interpreted only (decision 0010). Both wait nearly always. */
const LEAN = ['--optimize-for-size', '--no-opt', '--no-sparkplug'];
/** The latest Node that is tested with them. */
const LATEST_NODE = 24;

/** The container of pm2's cluster mode swallows an app that can't be loaded: it would stay `launching` for good. */
const LOUD = '--unhandled-rejections=strict';

/** V8 renames its options, and Node does not start with one that it does not know. */
function nodeArguments(): string[] {
  const isTested = Number.parseInt(process.versions.node, 10) <= LATEST_NODE;
  // SIGUSR1 opens the debugger otherwise, until log-signals.ts is loaded. Not in Node 20.
  const own = ['--disable-sigusr1'].filter((one) => process.allowedNodeEnvironmentFlags.has(one));
  return [LOUD, ...own, ...(isTested ? LEAN : [])];
}

/**
 * The path of an app as pm2 can start it: one with a space it hands to `bash -c` (its lib/Common.js). From the
 * app's folder it may have none.
 */
function scriptPath(app: 'runner' | 'manager', cwd: string): string {
  const path = scriptOf(app, cwd);
  if (!path.includes(' ')) return path;
  const fromFolder = relative(cwd, path);
  if (!fromFolder.includes(' ')) return fromFolder;
  throw new Pm2EnvoyError(
    'config-invalid',
    `pm2 can't start a script whose path has a space, such as ${fromFolder}, seen from ${cwd}: move pm2-envoy, or set cwd of envoyApps to a directory from which its path has none, such as ${PACKAGE_ROOT}`,
  );
}

/** pm2 prints the stack of what an ecosystem file throws, and that says nothing here. */
function withoutStack(error: unknown): unknown {
  if (error instanceof Error) error.stack = `${error.name}: ${error.message}`;
  return error;
}

/** The kill_timeout that pm2 has for this process; undefined outside pm2. */
export function ownKillTimeoutMs(env: NodeJS.ProcessEnv = process.env): number | undefined {
  // pm2 hands an app its scalar settings as environment variables (docs/facts/pm2.md, processes).
  const killMs = env['pm_id'] === undefined ? Number.NaN : Number(env['kill_timeout']);
  return Number.isFinite(killMs) ? killMs : undefined;
}

/** The longest drain that pm2 lets this process finish, from the kill_timeout that pm2 has for it. */
export function drainLimitMs(env: NodeJS.ProcessEnv = process.env): number | undefined {
  const killMs = ownKillTimeoutMs(env);
  return killMs === undefined ? undefined : Math.max(1_000, longestDrainMs(killMs));
}
