import { EXIT } from '../exit-codes.js';

/** What the help of a command of our own has beside its options. */
interface CommandHelp {
  /** Calls, and what each is for. */
  examples: readonly (readonly [call: string, text: string])[];
  /** Beside 0, 1, 2 and 78, which every command has. */
  exitCodes?: Readonly<Partial<Record<keyof typeof EXIT, string>>>;
}

const OF_DRAIN = {
  unreachable: 'neither manager nor Envoy can be reached',
  refused: 'refused by the manager (403)',
};

/** By the command's name. */
const HELP: Readonly<Record<string, CommandHelp>> = {
  shutdown: {
    examples: [
      ['shutdown', 'drain, and wait for the end'],
      ['shutdown --json', 'the result as JSON, for a script'],
    ],
    exitCodes: {
      done: 'drained, or Envoy is gone',
      timeout: 'connections were left at drain-timeout',
      cancelled: 'somebody resumed meanwhile',
      ...OF_DRAIN,
      interrupted: 'Ctrl-C; the drain goes on',
    },
  },
  resume: {
    examples: [
      ['resume', 'cancel the drain; Envoy passes its health check again'],
      ['resume --json', 'what was cancelled as JSON'],
    ],
    exitCodes: { cancelled: 'too late: the listeners are closed', ...OF_DRAIN },
  },
  status: {
    examples: [
      ['status --watch', 'watch a drain until Ctrl-C'],
      ['status --json', 'for a script'],
    ],
    exitCodes: OF_DRAIN,
  },
  redeploy: {
    examples: [
      ['redeploy --dry-run', 'show what would change'],
      ['redeploy --envoy 1.40.0', 'install this Envoy and put it into service'],
    ],
    exitCodes: {
      unexpected: 'it failed: what served goes on serving',
      timeout: 'connections of the old Envoy were cut at drain-timeout',
      unreachable: 'there is no pm2, or no app that runs Envoy',
      interrupted: 'Ctrl-C; the reload goes on',
    },
  },
  doctor: {
    examples: [
      ['doctor --grace-period 330s', 'does a whole stop fit into it?'],
      ['doctor --manifest pod.yaml', 'check a manifest: Kubernetes, Compose, …'],
    ],
    exitCodes: { unexpected: 'there is a problem' },
  },
  config: {
    examples: [
      ['config', 'every setting and where it comes from'],
      ['config --check-delay 10s', 'what a flag would change'],
    ],
  },
  init: {
    examples: [
      ['init > ecosystem.config.js', 'with the settings as they are by default'],
      ['init --format yaml --check-delay 10s', 'in YAML, with a setting'],
      ['init --name edge', 'a second Envoy under the same pm2'],
    ],
  },
  'envoy:install': {
    examples: [
      ['envoy install', 'the default version'],
      ['envoy install 1.39.3', 'another one'],
    ],
    exitCodes: { unexpected: 'it could not be fetched', usage: 'the version is not pinned' },
  },
  'envoy:which': {
    examples: [
      ['envoy which', 'the path'],
      ['envoy which --json', 'and how it was found'],
    ],
    exitCodes: { configuration: 'there is none' },
  },
};

const ALWAYS: Readonly<Partial<Record<keyof typeof EXIT, string>>> = {
  done: 'done',
  unexpected: 'something unexpected',
  usage: 'a mistake in the command line',
  configuration: 'a mistake in the configuration',
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
      : ['', 'Every setting is an option too: `pm2-envoy config --help` has them.']),
  ].join('\n');
}
