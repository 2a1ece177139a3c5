/** What the runner decides of an Envoy's command line. */
export interface EnvoyLaunch {
  /** Absolute path of the bootstrap file. */
  bootstrap: string;
  /** Unix socket of the generation's admin interface. */
  adminSocket: string;
  drainTimeMs: number;
  /** The user's `envoy-args`. */
  args: readonly string[];
}

const RESERVED: Readonly<Record<string, string>> = {
  '-c': 'set envoy-config',
  '--config-path': 'set envoy-config',
  '--config-yaml': 'put its content into the bootstrap file (envoy-config)',
  '--mode': 'the runner validates and serves by itself',
  '--drain-time-s': 'set envoy-drain-time',
  '--disable-hot-restart': 'it is always set',
  '--base-id': 'hot restart is not used',
  '--base-id-path': 'hot restart is not used',
  '--use-dynamic-base-id': 'hot restart is not used',
  '--restart-epoch': 'hot restart is not used',
  '--parent-shutdown-time-s': 'hot restart is not used',
};

/** Why an argument can't stand in `envoy-args`, if it can't. */
export function reservedArgument(argument: string): string | undefined {
  const name = argument.split('=')[0] ?? '';
  return Object.hasOwn(RESERVED, name) ? RESERVED[name] : undefined;
}

/**
 * The arguments that start one generation.
 *
 * The bootstrap stays as it is but for the admin address, which `--config-yaml` overrides with the
 * generation's own socket, mode 0600 (envoy-facts.md, admin interface). Hot restart is disabled: two
 * generations then share a port by SO_REUSEPORT, and Envoy does not die with its parent.
 */
export function envoyArguments(launch: EnvoyLaunch): string[] {
  const admin = { address: { pipe: { path: launch.adminSocket, mode: 0o600 } } };
  return [
    '--config-path',
    launch.bootstrap,
    '--config-yaml',
    JSON.stringify({ admin }),
    '--disable-hot-restart',
    '--drain-time-s',
    String(drainTimeSeconds(launch.drainTimeMs)),
    ...launch.args,
  ];
}

/** The arguments that only check a bootstrap, at a log level that names what is wrong. */
export function validateArguments(launch: Pick<EnvoyLaunch, 'bootstrap' | 'args'>): string[] {
  const args = launch.args.filter(
    (argument, index) => !isLogLevel(argument) && !isLogLevel(launch.args[index - 1], 'apart'),
  );
  return ['--mode', 'validate', '--config-path', launch.bootstrap, '-l', 'info', ...args];
}

/** `-l off`, `--log-level off`, `--log-level=off`; apart: the level is the next argument. */
function isLogLevel(argument: string | undefined, apart?: 'apart'): boolean {
  const name = apart ? argument : argument?.split('=')[0];
  return name === '-l' || name === '--log-level';
}

/** Envoy takes whole seconds, one at least. */
export function drainTimeSeconds(drainTimeMs: number): number {
  return Math.max(1, Math.round(drainTimeMs / 1_000));
}
