const NOT_USED = 'hot restart is not used';

/** Options of Envoy's that the runner sets by itself, and what to do instead. */
const RESERVED: Readonly<Record<string, string>> = {
  '-c': 'set envoy-config',
  '--config-path': 'set envoy-config',
  '--config-yaml': 'put its content into the bootstrap file (envoy-config)',
  '--mode': 'the runner validates and serves by itself',
  '--drain-time-s': 'set envoy-drain-time',
  '--disable-hot-restart': 'it is always set',
  '--base-id': NOT_USED,
  '--base-id-path': NOT_USED,
  '--use-dynamic-base-id': NOT_USED,
  '--restart-epoch': NOT_USED,
  '--parent-shutdown-time-s': NOT_USED,
};

/** Every other option that takes a value (`envoy --help`, 1.36 to 1.40). */
const WITH_VALUE: readonly string[] = [
  ...['--admin-address-path', '--component-log-level', '--concurrency', '--disable-extensions'],
  ...['--drain-strategy', '--file-flush-interval-msec', '--file-flush-min-size-kb'],
  ...['--local-address-ip-version', '--log-format', '--log-path', '--service-cluster'],
  ...['--service-node', '--service-zone', '--socket-mode', '--socket-path', '--stats-tag'],
  '--log-level',
];
/** Every other option that takes none. */
const SWITCHES: readonly string[] = [
  ...['--allow-unknown-fields', '--allow-unknown-static-fields', '--cpuset-threads'],
  ...['--enable-core-dump', '--enable-fine-grain-logging', '--enable-mutex-tracing'],
  ...['--ignore-unknown-dynamic-fields', '--log-format-escaped', '--log-stacktrace-single-entry'],
  ...['--reject-unknown-dynamic-fields', '--skip-deprecated-logs'],
  ...['--skip-hot-restart-on-no-parent', '--skip-hot-restart-parent-stats'],
];
/** With them Envoy prints something and ends. */
const PRINTING: readonly string[] = ['--version', '--help', '-h', '--hot-restart-version'];
const LOG_LEVELS = ['trace', 'debug', 'info', 'warning', 'warn', 'error', 'critical', 'off'];

/** An argument that can't stand where it does, and why. */
export interface ArgumentFault {
  argument: string;
  /** The rest of a sentence that begins with the argument. */
  fault: string;
}

/**
 * What is wrong with `envoy-args`, each with its remedy: what Envoy itself refuses to start with, which
 * no check of the bootstrap finds. An option that we don't know, of a later Envoy perhaps, is left to Envoy.
 */
export function argumentFaults(args: readonly string[]): ArgumentFault[] {
  const faults: ArgumentFault[] = [];
  const given = new Set<string>();
  for (let index = 0; index < args.length; index += 1) {
    const argument = args[index] ?? '';
    const name = argument === '-l' ? '--log-level' : argument;
    const value = args[index + 1];
    const fault = faultOf(argument, given.has(name)) ?? faultOfValue(name, value);
    if (fault) faults.push({ argument, fault });
    given.add(name);
    const isForeign = argument.startsWith('-') && !isKnown(name);
    if (WITH_VALUE.includes(name) || (isForeign && value?.startsWith('-') === false)) index += 1;
  }
  return faults;
}

function faultOf(argument: string, isAgain: boolean): string | undefined {
  const [, name = argument, rest] = /^(-[^=\s,]+)[=\s,]+(.*)$/.exec(argument) ?? [];
  const reserved = Object.hasOwn(RESERVED, name) ? RESERVED[name] : undefined;
  if (reserved) return `is set by pm2-envoy: ${reserved}`;
  if (PRINTING.includes(argument)) return `makes Envoy print something and exit: leave it out`;
  if (!argument.startsWith('-')) {
    return `belongs to no option: Envoy refuses it (separate arguments by spaces if one of them has a comma)`;
  }
  if (rest !== undefined && isKnown(name)) {
    const apart = [name, ...rest.split(/\s+/)];
    return `is more than one argument: write ${JSON.stringify(apart)}`;
  }
  if (isAgain && argument !== '--stats-tag') return `is there twice: Envoy accepts it once`;
  return undefined;
}

function faultOfValue(name: string, value: string | undefined): string | undefined {
  if (!WITH_VALUE.includes(name)) return undefined;
  if (value === undefined) return `has no value after it`;
  if (name === '--log-level' && !LOG_LEVELS.includes(value)) {
    return `is followed by ${JSON.stringify(value)}, which is not a log level of Envoy: ${LOG_LEVELS.join(', ')}`;
  }
  if (name === '--concurrency' && !/^\d+$/.test(value)) {
    return `is followed by ${JSON.stringify(value)}, which is not a number of threads`;
  }
  return undefined;
}

function isKnown(name: string): boolean {
  return name === '-l' || WITH_VALUE.includes(name) || SWITCHES.includes(name);
}
