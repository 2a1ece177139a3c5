import { childEnvironment, describeExit } from '../../envoy/process.js';
import { messageOf, systemCodeOf } from '../../errors.js';
import type { HookContext, HookSpec, Plugin, PluginHost } from '../api/types.js';
import { readHooks } from './options.js';
import { runProgram } from './program.js';

/** As many lines of one run are logged. */
const MOST_LINES = 100;
/** Lines of stderr that a failure is reported with. */
const LAST_LINES = 3;
const LONGEST_NAME = 200;

/**
 * `pm2-envoy/command`: runs a command at each lifecycle event that its option `hooks` names
 * (docs/plugins.md). /bin/sh runs a string; a list runs directly.
 */
export class CommandPlugin implements Plugin {
  readonly hooks: Readonly<Record<string, HookSpec>>;

  /** @throws Pm2EnvoyError `plugin-invalid` */
  constructor(_host: PluginHost, options: Readonly<Record<string, unknown>>) {
    this.hooks = readHooks(options, {
      main: 'run',
      create: ({ hook, read }) => {
        const command = read('run', parseProgram);
        return (context) => runCommand({ hook, ...command }, context);
      },
    });
  }
}

export { CommandPlugin as plugin };

interface Program {
  /** As it is called in messages. */
  shown: string;
  file: string;
  args: readonly string[];
}

function parseProgram(value: unknown): Program {
  const words = typeof value === 'string' ? [value] : value;
  if (!Array.isArray(words) || !words.every((word) => typeof word === 'string')) {
    throw new Error('must be a string for the shell, or a list of program and arguments');
  }
  const [file = '', ...args]: string[] = words;
  if (file.trim() === '') throw new Error('must not be empty');
  if (words.some((word: string) => word.includes('\0'))) throw new Error('must not contain a NUL');
  const shown = words.join(' ').replaceAll(/\s+/g, ' ').slice(0, LONGEST_NAME);
  if (typeof value === 'string') return { shown, file: '/bin/sh', args: ['-c', value] };
  return { shown, file, args };
}

/** Rejects when it fails; its output goes to the log. */
async function runCommand(
  { hook, shown, file, args }: Program & { hook: string },
  context: HookContext,
): Promise<void> {
  const { log, signal } = context;
  const startedMs = performance.now();
  const errors: string[] = [];
  let count = 0;
  const onLine = (line: string, stream: 'stdout' | 'stderr'): void => {
    if (stream === 'stderr') errors.push(line);
    if (errors.length > LAST_LINES) errors.shift();
    count += 1;
    if (count <= MOST_LINES) log.info({ hook, stream }, line);
    if (count === MOST_LINES) log.warn({ hook }, `${shown}: further output is not logged`);
  };
  const env = { ...childEnvironment(), ...drainVariables(hook, context) };
  const exit = await runProgram({ file, args, env, onLine }, signal).catch((error: unknown) => {
    throw new Error(`${shown} can't be started: ${systemCodeOf(error) ?? messageOf(error)}`);
  });
  const how = `${shown} ${describeExit(exit)} after ${Math.round(performance.now() - startedMs)} ms`;
  if (exit.code !== 0) throw new Error([how, ...errors].join(' | '));
  log.info({ hook }, how);
}

/** Not called PM2_ENVOY_…: a `pm2-envoy` that the command calls would refuse those as unknown keys. */
function drainVariables(hook: string, { command, event, drain }: HookContext): NodeJS.ProcessEnv {
  const text = (value: unknown): string => String(value ?? '');
  return {
    DRAIN_COMMAND: command,
    DRAIN_EVENT: event,
    DRAIN_HOOK: hook,
    DRAIN_STARTED_AT: text(drain?.startedAt),
    DRAIN_TIME_LEFT_MS: text(drain && Math.round(drain.timeLeftMs())),
    DRAIN_CONNECTIONS_AT_START: text(drain?.connectionsAtStart),
    DRAIN_CONNECTIONS_LEFT: text(drain?.connectionsLeft),
    DRAIN_OUTCOME: text(drain?.outcome),
  };
}
