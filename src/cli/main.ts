import { Command, CommanderError } from 'commander';
import type { Config } from '../config/config.js';
import { type ConfigSources, type LoadedConfig, loadConfig } from '../config/load.js';
import { messageOf } from '../errors.js';
import { EXIT, exitCodeOf } from '../exit-codes.js';
import { createLog, type Log, silentLog } from '../log.js';
import { packageVersion } from '../package-root.js';
import type { PluginClass, PluginHost } from '../plugins/api/types.js';
import { DrainPlugin } from '../plugins/drain-plugin.js';
import { createPluginHost, type LoadedPlugin } from '../plugins/host.js';
import { loadPlugins } from '../plugins/load.js';
import { withCall } from '../pm2/app-config.js';
import { sourcesOfApp, sourcesOfOwnApp } from '../pm2/find-app.js';
import { withModuleSettings } from '../pm2/module/state.js';
import { ConfigPlugin } from './commands/config.js';
import { DoctorPlugin } from './commands/doctor.js';
import { EnvoyPlugin } from './commands/envoy.js';
import { InitPlugin } from './commands/init.js';
import { PluginPlugin } from './commands/plugin.js';
import { RedeployPlugin } from './commands/redeploy.js';
import { runResume } from './commands/resume.js';
import { runShutdown } from './commands/shutdown.js';
import { StatusPlugin } from './commands/status.js';
import { expandHelp, explainError, findMistake, type Mistake } from './mistakes.js';
import { addCommand, type GivenOptions, takeOptions } from './options.js';
import type { CliContext } from './terminal/context.js';
import { createIo } from './terminal/io.js';

/** The command line: runs one command and sets the exit code (docs/commands.md). */
export async function main(argv: readonly string[]): Promise<void> {
  const io = createIo();
  const call: Call = { flags: {}, configFile: undefined, json: false, app: undefined };
  const cli: CliContext = {
    io,
    get json() {
      return call.json;
    },
    get isGivenSettings() {
      return call.configFile !== undefined || Object.keys(call.flags).length > 0;
    },
    given: call,
    load: (env) => {
      if (env) return loadConfig({ ...call, env });
      call.loaded ??= loadConfig(sourcesOf(call));
      return call.loaded;
    },
    endWith: (code) => {
      process.exitCode = code;
    },
  };
  try {
    const own = ownPlugins(cli);
    const { problem, ...opened } = await openHost(argv, own);
    const program = createProgram({ ...opened, own: commandsOf(own) }, { cli, call });
    const words = expandHelp(argv);
    const mistake = findMistake(program, words) ?? (await parse(program, words));
    for (const line of mistake ?? []) io.note(line);
    // The command that is looked for may be one of a plugin that could not be loaded.
    if (problem && (mistake || isHelp(words))) io.note(`no plugin was loaded: ${problem}`);
    if (mistake) process.exitCode = EXIT.usage;
  } catch (error) {
    for (const line of messageOf(error).split('\n')) io.say(`pm2-envoy: ${line}`);
    process.exitCode = exitCodeOf(error);
  }
  // What a plugin has left open would keep this process for good; without that it ends by itself, now.
  setTimeout(() => process.exit(), LINGER_MS).unref();
}

function isHelp(words: readonly string[]): boolean {
  return words.length === 0 || words.includes('--help') || words.includes('-h');
}

const LINGER_MS = 2_000;

/** A drain loads plugins itself, where it is not the manager's: none may be in its way. */
const NEED_NO_PLUGINS: readonly string[] = ['shutdown', 'resume', '--version'];

/** The others find the app by pm2. */
const ASK_THE_MANAGER: readonly string[] = ['shutdown', 'resume', 'status'];

/** What one call of the command line was given. */
interface Call extends GivenOptions {
  loaded?: LoadedConfig;
  /** What the app has that is meant, by `--app` or without. */
  ofApp?: ConfigSources | undefined;
}

function sourcesOf({ flags, configFile, ofApp }: Call): ConfigSources {
  if (!ofApp) return { flags, configFile, env: withModuleSettings() };
  return withCall(ofApp, { flags, configFile });
}

/** Runs the command; returns what is wrong with how it was called, if that is why it did not. */
async function parse(program: Command, argv: readonly string[]): Promise<Mistake | undefined> {
  try {
    await program.parseAsync([...argv], { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    process.exitCode = error.exitCode === 0 ? EXIT.done : EXIT.usage;
    if (!HELP_SHOWN.includes(error.code)) return explainError(program, argv, error);
  }
  return undefined;
}

/** Not errors: commander has said all there is to say. */
const HELP_SHOWN: readonly string[] = [
  'commander.help',
  'commander.helpDisplayed',
  'commander.version',
];

function ownPlugins(cli: CliContext): LoadedPlugin[] {
  const options = { cli };
  const own = (
    name: string,
    create: unknown,
    more: Record<string, unknown> = options,
  ): LoadedPlugin => ({
    name,
    create: create as PluginClass,
    options: more,
    builtIn: true,
  });
  return [
    own('drain', DrainPlugin, {
      shutdown: () => runShutdown(cli),
      resume: () => runResume(cli),
    }),
    own('status', StatusPlugin),
    own('redeploy', RedeployPlugin),
    own('doctor', DoctorPlugin),
    own('config', ConfigPlugin),
    own('envoy', EnvoyPlugin),
    own('init', InitPlugin),
    own('plugin', PluginPlugin),
  ];
}

/** The host of one call, and what it gets once the options of the command are read. */
interface OpenedHost {
  host: PluginHost;
  bound: { config: Config; log: Log };
}

/**
 * Constructs every plugin, once. A configuration or plugin that can't be used is reported by the command that needs it,
 * not by `--help`.
 */
async function openHost(
  argv: readonly string[],
  own: readonly LoadedPlugin[],
): Promise<OpenedHost & { problem: string | undefined }> {
  const hostOf = (config: Config, users: readonly LoadedPlugin[]): OpenedHost => {
    const bound = { config, log: silentLog, plugins: [...own, ...users] };
    return { host: createPluginHost(bound), bound };
  };
  const bare = (problem?: string) => ({ ...hostOf(loadConfig({ env: {} }).config, []), problem });
  if (NEED_NO_PLUGINS.includes(argv[0] ?? '')) return bare();
  const at = argv.findIndex((word) => word === '--config' || word.startsWith('--config='));
  const configFile = argv[at]?.split('=')[1] ?? (at < 0 ? undefined : argv[at + 1]);
  try {
    const { config } = loadConfig({ configFile, env: withModuleSettings() });
    return { ...hostOf(config, await loadPlugins(config.plugins)), problem: undefined };
  } catch (error) {
    return bare(messageOf(error));
  }
}

function createProgram(
  { host, bound, own }: OpenedHost & { own: PluginHost['commands'] },
  { cli, call }: { cli: CliContext; call: Call },
): Command {
  const program = new Command('pm2-envoy')
    .description('Drains, stops and redeploys an Envoy proxy under pm2 without losing a request')
    .version(packageVersion(), '--version', 'show the version')
    .helpOption('-h, --help', 'show this help')
    .helpCommand('help [command]', 'Show the help of a command')
    .configureOutput({ outputError: () => undefined })
    .exitOverride();
  for (const [name, spec] of host.commands) {
    if (spec.internal) continue;
    program.commandsGroup(own.has(name) ? 'Commands:' : 'Commands of plugins:');
    const command = addCommand(program, name, spec);
    command.action(async (...args: unknown[]) => {
      const options = command.opts();
      Object.assign(call, takeOptions(spec, options));
      if (call.app !== undefined) call.ofApp = await sourcesOfApp(call.app);
      else if (ASK_THE_MANAGER.includes(name)) {
        call.ofApp = await sourcesOfOwnApp(loadConfig(sourcesOf(call)));
      }
      const invocation = {
        args: args.slice(0, -2).filter((arg) => typeof arg === 'string'),
        options,
      };
      const code = await spec.main?.(invocation);
      if (code !== undefined) {
        process.exitCode = code;
        return;
      }
      const { config } = cli.load();
      bound.config = config;
      bound.log = await createLog({
        name: 'pm2-envoy',
        level: config.logLevel,
        format: config.logFormat,
        stream: process.stderr,
      });
      await host.run(name, { invocation });
    });
  }
  return program;
}

function commandsOf(plugins: readonly LoadedPlugin[]): PluginHost['commands'] {
  const { config } = loadConfig({ env: {} });
  return createPluginHost({ config, log: silentLog, plugins }).commands;
}
