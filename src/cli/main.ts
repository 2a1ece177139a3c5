import { Command, CommanderError, Option } from 'commander';
import { ConfigPlugin } from '../commands/config.js';
import { DoctorPlugin } from '../commands/doctor.js';
import { DrainPlugin } from '../commands/drain.js';
import { EnvoyPlugin } from '../commands/envoy.js';
import { RedeployPlugin } from '../commands/redeploy.js';
import { StatusPlugin } from '../commands/status.js';
import { FORMATS } from '../config/formats.js';
import { type LoadedConfig, loadConfig } from '../config/load.js';
import { KEYS, specOf } from '../config/schema.js';
import { messageOf } from '../errors.js';
import { EXIT, exitCodeOf } from '../exit-codes.js';
import { createLog, silentLog } from '../log.js';
import { packageVersion } from '../package-root.js';
import { createPluginHost, type LoadedPlugin } from '../plugins/host.js';
import { loadPlugins } from '../plugins/load.js';
import type { CommandSpec, PluginClass } from '../plugins/types.js';
import type { CliContext } from './context.js';
import { createIo } from './io.js';
import { runResume } from './resume.js';
import { runShutdown } from './shutdown.js';

/** The command line: runs one command and sets the exit code (contract 7). */
export async function main(argv: readonly string[]): Promise<void> {
  const io = createIo();
  const call: Call = { flags: {}, configFile: undefined, json: false };
  const cli: CliContext = {
    io,
    get json() {
      return call.json;
    },
    load: () => {
      call.loaded ??= loadConfig(call);
      return call.loaded;
    },
    endWith: (code) => {
      process.exitCode = code;
    },
  };
  try {
    const own = ownPlugins(cli);
    const plugins = [...own, ...(await userPlugins(argv, own))];
    const program = createProgram(plugins, { cli, call });
    await program.parseAsync([...argv], { from: 'user' });
  } catch (error) {
    if (error instanceof CommanderError) {
      process.exitCode = error.exitCode === 0 ? EXIT.done : EXIT.usage;
      return;
    }
    for (const line of messageOf(error).split('\n')) io.note(`pm2-envoy: ${line}`);
    process.exitCode = exitCodeOf(error);
  }
}

/** What one call of the command line was given. */
interface Call {
  flags: Record<string, string>;
  configFile: string | undefined;
  json: boolean;
  loaded?: LoadedConfig;
}

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
  ];
}

/** A configuration or plugin that can't be used is reported by the command that needs it, not by `--help`. */
async function userPlugins(
  argv: readonly string[],
  own: readonly LoadedPlugin[],
): Promise<LoadedPlugin[]> {
  const at = argv.findIndex((word) => word === '--config' || word.startsWith('--config='));
  const configFile = argv[at]?.split('=')[1] ?? (at < 0 ? undefined : argv[at + 1]);
  try {
    const { config } = loadConfig({ configFile });
    const plugins = await loadPlugins(config.plugins);
    createPluginHost({ config, log: silentLog, plugins: [...own, ...plugins] });
    return plugins;
  } catch {
    return [];
  }
}

function createProgram(
  plugins: readonly LoadedPlugin[],
  { cli, call }: { cli: CliContext; call: Call },
): Command {
  const program = new Command('pm2-envoy')
    .description('Drains, stops and redeploys an Envoy proxy under pm2 without losing a request')
    .version(packageVersion(), '--version')
    .exitOverride()
    .showHelpAfterError('(--help says more)');
  const declared = createPluginHost({
    config: loadConfig({ env: {} }).config,
    log: silentLog,
    plugins,
  });
  for (const [name, spec] of declared.commands) {
    if (spec.internal) continue;
    const command = addCommand(program, name, spec);
    command.action(async (...args: unknown[]) => {
      const options = command.opts();
      takeOptions(options, call);
      const invocation = {
        args: args.slice(0, -2).filter((arg) => typeof arg === 'string'),
        options,
      };
      if (spec.main) {
        process.exitCode = await spec.main(invocation);
        return;
      }
      const { config } = cli.load();
      const log = await createLog({
        name: 'pm2-envoy',
        level: config.logLevel,
        format: config.logFormat,
        stream: process.stderr,
      });
      await createPluginHost({ config, log, plugins }).run(name, { invocation });
    });
  }
  return program;
}

/** `envoy:install` becomes the command `install` of the command `envoy`. */
function addCommand(program: Command, name: string, spec: CommandSpec): Command {
  const words = name.split(':');
  const last = words.pop() ?? name;
  let parent = program;
  for (const word of words) {
    parent =
      parent.commands.find((command) => command.name() === word) ??
      parent.command(word).description(`Commands about ${word}`);
  }
  const command = parent.command(spec.arguments ? `${last} ${spec.arguments}` : last);
  command.description(spec.usage);
  command.option('--json', 'print one JSON document');
  for (const [flags, usage] of Object.entries(spec.options ?? {})) command.option(flags, usage);
  command.optionsGroup('Configuration (docs/configuration.md; also in a file or as PM2_ENVOY_…):');
  command.option('--config <file>', 'JSON file with any of the following');
  for (const key of KEYS) {
    const { doc, format } = specOf(key);
    command.addOption(
      new Option(
        `--${key} <value>`,
        `${doc} Allowed: ${FORMATS[format].allowed}.`.replaceAll('`', ''),
      ),
    );
  }
  return command;
}

function takeOptions(options: Readonly<Record<string, unknown>>, call: Call): void {
  call.json = options['json'] === true;
  if (typeof options['config'] === 'string') call.configFile = options['config'];
  for (const key of KEYS) {
    const value = options[camelCase(key)];
    if (typeof value === 'string') call.flags[key] = value;
  }
}

function camelCase(key: string): string {
  return key.replace(/-(\w)/g, (_, letter: string) => letter.toUpperCase());
}
