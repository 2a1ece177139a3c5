import { resolve } from 'node:path';
import type { Config } from '../config/config.js';
import {
  type ConfigSources,
  configVariables,
  type LoadedConfig,
  loadConfig,
} from '../config/load.js';
import { TERMINATE_LIMIT_MS } from '../envoy/process.js';
import { EXIT } from '../exit-codes.js';
import { PACKAGE_ROOT } from '../package-root.js';
import { HOOK_TIMEOUT_MS } from '../plugins/host.js';

/** What can be set of the two apps; everything else follows from pm2-envoy's configuration. */
export interface EnvoyAppsOptions {
  /** Working directory of the apps, and where relative paths of the configuration start. */
  cwd?: string;
  /** Environment variables for both apps; `PM2_ENVOY_…` among them configure pm2-envoy. */
  env?: Readonly<Record<string, string>>;
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
  node_args: string[];
  disable_source_map_support: true;
  stop_exit_codes: number[];
  env: Record<string, string>;
}

/** What may come after `drain-timeout`: hooks that are still under way, and the end of Envoy itself. */
export const AFTER_DRAIN_MS: number = HOOK_TIMEOUT_MS + TERMINATE_LIMIT_MS + 5_000;

/** pm2 signals the old runner at the latest after this time, whether or not the new one is ready. */
export const LISTEN_TIMEOUT_MS = 90_000;

/** A generation must be LIVE within this time; below {@link LISTEN_TIMEOUT_MS} with time to tell. */
export const LIVE_LIMIT_MS = 60_000;

/**
 * The two apps for a pm2 ecosystem file: `envoy` (the runner) and `envoy-manager`. With
 * `admin-address` set, Envoy is somebody else's and only the manager is there.
 *
 * Reads the configuration as the apps will (environment, profile, file), so that `kill_timeout`
 * follows `drain-timeout`.
 *
 * @throws Pm2EnvoyError `config-invalid`
 */
export function envoyApps(options: EnvoyAppsOptions = {}): Pm2App[] {
  const cwd = resolve(options.cwd ?? process.cwd());
  const env = { ...process.env, ...options.env };
  const sources: ConfigSources = { env, cwd };
  // A relative PM2_ENVOY_CONFIG of the shell was typed in the shell's folder, not in the ecosystem's.
  const isShells = options.env?.['PM2_ENVOY_CONFIG'] === undefined;
  const variables = configVariables(isShells ? { env } : sources);
  const { config } = loadOrThrow({ ...sources, configFile: variables['PM2_ENVOY_CONFIG'] });
  const shared = {
    cwd,
    kill_timeout: killTimeoutMs(config),
    // Signalling children first would end Envoy at once (pm2-facts.md, layout V3).
    treekill: false as const,
    // pm2's injected module exits the process when the daemon dies.
    pmx: false as const,
    // The first of a row of crashes costs no more than that; each later one half as much again. Below 19 ms 16 of
    // them fit into the first 16 s, where pm2 gives up for good (its lib/God.js).
    exp_backoff_restart_delay: 20,
    // pm2 has Node load the source maps of every module otherwise: 10 MB.
    disable_source_map_support: true as const,
    env: { ...options.env, ...variables },
  };
  const manager: Pm2App = {
    ...shared,
    name: 'envoy-manager',
    script: resolve(PACKAGE_ROOT, 'dist/apps/manager.js'),
    exec_mode: 'fork',
    node_args: nodeArguments(LEAN),
    stop_exit_codes: [EXIT.configuration],
  };
  if (config.adminAddress) return [manager];
  const runner: Pm2App = {
    ...shared,
    name: 'envoy',
    script: resolve(PACKAGE_ROOT, 'dist/apps/runner.js'),
    // It waits nearly always (decision 0010); the manager answers a thousand callers at once.
    node_args: nodeArguments(LEAN, ...NOT_COMPILED),
    // Only cluster mode starts the new one first on a reload.
    exec_mode: 'cluster',
    instances: 1,
    wait_ready: true,
    listen_timeout: LISTEN_TIMEOUT_MS,
    stop_exit_codes: [EXIT.stoppedBeforeLive, EXIT.configuration],
  };
  return [runner, manager];
}

/** Less memory at some cost in speed (decision 0009). */
const LEAN = '--optimize-for-size';
/** JavaScript is interpreted only (decision 0010). */
const NOT_COMPILED = ['--no-opt', '--no-sparkplug'];
/** The latest Node that is tested with them. */
const LATEST_NODE = 24;

/** V8 renames its options, and Node does not start with one that it does not know. */
function nodeArguments(...options: readonly string[]): string[] {
  return Number.parseInt(process.versions.node, 10) <= LATEST_NODE ? [...options] : [];
}

/** Reads the configuration; pm2 prints the stack of what an ecosystem file throws, and that says nothing here. */
function loadOrThrow(sources: ConfigSources): LoadedConfig {
  try {
    return loadConfig(sources);
  } catch (error) {
    if (error instanceof Error) error.stack = `${error.name}: ${error.message}`;
    throw error;
  }
}

/** How long pm2 must wait before SIGKILL: a whole drain, and what comes after it. */
export function killTimeoutMs(config: Pick<Config, 'drainTimeoutMs'>): number {
  return config.drainTimeoutMs + AFTER_DRAIN_MS;
}

/** The longest drain that pm2 lets this process finish, from the kill_timeout that pm2 has for it. */
export function drainLimitMs(env: NodeJS.ProcessEnv = process.env): number | undefined {
  // pm2 hands an app its scalar settings as environment variables (pm2-facts.md, processes).
  const killMs = env['pm_id'] === undefined ? Number.NaN : Number(env['kill_timeout']);
  return Number.isFinite(killMs) ? Math.max(1_000, killMs - AFTER_DRAIN_MS) : undefined;
}
