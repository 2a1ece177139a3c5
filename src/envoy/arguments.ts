import type { BootstrapAdmin } from '../host/bootstrap-admin.js';

/** What the runner decides of an Envoy's command line. */
export interface EnvoyLaunch {
  /** Absolute path of the bootstrap file. */
  bootstrap: string;
  /** Unix socket of the generation's admin interface. */
  adminSocket: string;
  /** What the bootstrap says of its admin interface; undefined: that is not known. */
  admin?: BootstrapAdmin | undefined;
  drainTimeMs: number;
  /** The user's `envoy-args`. */
  args: readonly string[];
  /** More root keys of the bootstrap, beside the admin address. */
  overrides?: object | undefined;
}

/**
 * The arguments that start one generation.
 *
 * The bootstrap stays as it is but for the admin interface, which `--config-yaml` changes:
 * - its address is the generation's own socket, mode 0600 (docs/facts/envoy.md, admin interface);
 * - it has no part in `overload.global_downstream_max_connections`: at that limit Envoy refuses the drain;
 * - where `allow_paths` lists what may be asked, everything may be, of this socket. Envoy adds to the list;
 *   before 1.37 it does not know it. The relay keeps the user's.
 *
 * Hot restart is disabled: two generations then share a port by SO_REUSEPORT, and Envoy does not die with
 * its parent.
 */
export function envoyArguments(launch: EnvoyLaunch): string[] {
  const isLimited = launch.admin !== undefined && launch.admin.allowPaths.length > 0;
  const admin = {
    address: { pipe: { path: launch.adminSocket, mode: 0o600 } },
    ignore_global_conn_limit: true,
    ...(isLimited ? { allow_paths: [{ prefix: '/' }] } : {}),
  };
  return [
    '--config-path',
    launch.bootstrap,
    '--config-yaml',
    JSON.stringify({ admin, ...launch.overrides }),
    '--disable-hot-restart',
    '--drain-time-s',
    String(drainTimeSeconds(launch.drainTimeMs)),
    ...launch.args,
  ];
}

/** The arguments that only check a bootstrap, at a log level that names what is wrong. */
export function validateArguments(launch: Pick<EnvoyLaunch, 'bootstrap' | 'args'>): string[] {
  const args = launch.args.filter(
    (argument, index) => !isLogLevel(argument) && !isLogLevel(launch.args[index - 1]),
  );
  return ['--mode', 'validate', '--config-path', launch.bootstrap, '-l', 'info', ...args];
}

function isLogLevel(argument: string | undefined): boolean {
  return argument === '-l' || argument === '--log-level';
}

/** Envoy takes whole seconds, one at least. */
export function drainTimeSeconds(drainTimeMs: number): number {
  return Math.max(1, Math.round(drainTimeMs / 1_000));
}
