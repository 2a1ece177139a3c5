import { EXIT } from '../exit-codes.js';

/** What the help of a command of our own has beside its options. */
interface CommandHelp {
  /** Calls, and what each is for. */
  examples: readonly (readonly [call: string, text: string])[];
  /** Beside 0, 1, 2 and 78, which every command has. */
  exitCodes?: Readonly<Partial<Record<keyof typeof EXIT, string>>>;
}

const OF_DRAIN = {
  unreachable: 'neither the manager nor Envoy can be reached',
  refused: 'refused by the manager (403)',
};

/** By the command's name. */
const HELP: Readonly<Record<string, CommandHelp>> = {
  shutdown: {
    examples: [
      ['shutdown', 'drain, and wait until the drain has ended'],
      ['shutdown --json', 'print the result as JSON, for a script'],
    ],
    exitCodes: {
      done: 'drained, or Envoy has exited',
      timeout: 'connections were still open at drain-timeout',
      cancelled: 'the drain was cancelled',
      ...OF_DRAIN,
      interrupted: 'Ctrl-C; the drain continues',
    },
  },
  resume: {
    examples: [
      ['resume', 'cancel the drain; Envoy passes its health check again'],
      ['resume --json', 'print what was cancelled as JSON'],
    ],
    exitCodes: { cancelled: 'too late: the listeners are closed', ...OF_DRAIN },
  },
  status: {
    examples: [
      ['status --watch', 'watch a drain until Ctrl-C'],
      ['status --json', 'print it as JSON, for a script'],
    ],
    exitCodes: OF_DRAIN,
  },
  redeploy: {
    examples: [
      ['redeploy --dry-run', 'show what would change'],
      ['redeploy --envoy 1.40.0', 'install this Envoy and redeploy with it'],
    ],
    exitCodes: {
      unexpected: 'the redeploy failed; the Envoy in service keeps serving',
      timeout: 'connections of the old Envoy were cut at drain-timeout',
      unreachable: 'pm2 has no app that runs Envoy, or the new Envoy does not answer',
      interrupted: 'Ctrl-C; the reload continues',
    },
  },
  doctor: {
    examples: [
      ['doctor --grace-period 330s', 'check that a stop fits into 330s'],
      ['doctor --manifest pod.yaml', 'check a manifest: Kubernetes, Compose, …'],
    ],
    exitCodes: { unexpected: 'at least one problem was found' },
  },
  config: {
    examples: [
      ['config', 'show every setting and where it comes from'],
      ['config --check-delay 10s', 'show what an option changes'],
    ],
  },
  init: {
    examples: [
      ['init > ecosystem.config.js', 'with the settings as they are by default'],
      ['init --format yaml --check-delay 10s', 'in YAML, with a setting'],
      ['init --name edge', 'a second Envoy under the same pm2'],
    ],
  },
  'plugin:list': {
    examples: [
      ['plugin list', 'those of the running app, or of this shell'],
      ['plugin list --json', 'for a script'],
    ],
    exitCodes: { configuration: "one can't be used, or a mistake in the configuration" },
  },
  'plugin:create': {
    examples: [['plugin create deregister', 'the folder deregister']],
    exitCodes: { usage: 'no name for a plugin, or it is taken' },
  },
  'envoy:install': {
    examples: [
      ['envoy install', 'install the default version'],
      ['envoy install 1.39.3', 'install another version'],
    ],
    exitCodes: { unexpected: 'Envoy could not be downloaded', usage: 'the version is not pinned' },
  },
  'envoy:which': {
    examples: [
      ['envoy which', 'print the path'],
      ['envoy which --json', 'print the path and how it was found'],
    ],
    exitCodes: { configuration: 'no Envoy was found' },
  },
};

const ALWAYS: Readonly<Partial<Record<keyof typeof EXIT, string>>> = {
  done: 'done',
  unexpected: 'unexpected error',
  usage: 'usage error',
  configuration: 'configuration error',
};

/** What stands below the options of a command; of one of a plugin, where to find the settings. */
export function helpAfter(command: string): string {
  const { examples = [], exitCodes = {} } = HELP[command] ?? {};
  const codes = { ...ALWAYS, ...exitCodes };
  const rows = Object.entries(EXIT).flatMap(([name, code]) => {
    const text = codes[name as keyof typeof EXIT];
    return text === undefined ? [] : [`  ${String(code).padEnd(5)}${text}`];
  });
  const width = Math.max(0, ...examples.map(([call]) => call.length)) + 2;
  return [
    ...(examples.length > 0 ? ['', 'Examples:'] : []),
    ...examples.map(([call, text]) => `  pm2-envoy ${call.padEnd(width)}${text}`),
    ...(HELP[command] ? ['', 'Exit codes:', ...rows] : []),
    ...(command === 'config'
      ? []
      : ['', 'Every setting is also an option: see `pm2-envoy config --help`.']),
  ].join('\n');
}
