import { existsSync, readFileSync, realpathSync } from 'node:fs';
import { createServer } from 'node:net';
import { dirname, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { LoadedConfig } from '../../config/load.js';
import { type Key, variableOf } from '../../config/schema.js';
import { Pm2EnvoyError } from '../../errors.js';
import { EXIT } from '../../exit-codes.js';
import { installedFrom, PACKAGE_ROOT } from '../../package-root.js';
import type { CommandSpec, HookFunction, Plugin, PluginHost } from '../../plugins/api/types.js';
import { envoyApps } from '../../pm2/apps.js';
import { type EcosystemFormat, FORMATS, renderEcosystem } from '../init/ecosystem.js';
import type { CliContext } from '../terminal/context.js';

/** `pm2-envoy init`: prints an ecosystem file. */
export class InitPlugin implements Plugin {
  readonly commands: Readonly<Record<string, CommandSpec>>;
  readonly hooks: Readonly<Record<string, HookFunction>>;

  constructor(_host: PluginHost, { cli }: { cli: CliContext }) {
    this.commands = {
      init: {
        usage: 'Print an ecosystem file for pm2, with the settings that are given here as options',
        lifecycleEvents: ['print'],
        options: {
          '--format <format>': `${FORMATS.join(', ')}; that of the folder's own modules if left out`,
          '--name <name>':
            'name of the app that runs Envoy, in place of envoy: a second Envoy under one pm2 needs another one',
        },
        main: async ({ options: { format } }) => {
          if (format === undefined || isFormat(format)) return undefined;
          cli.io.note(`pm2-envoy: --format ${format}: allowed are ${FORMATS.join(', ')}`);
          return EXIT.usage;
        },
      },
    };
    this.hooks = {
      'init:print': ({ invocation: { options } }) => print(cli, options),
    };
  }
}

async function print(
  cli: CliContext,
  { format, name }: Readonly<Record<string, unknown>>,
): Promise<void> {
  const { io, json } = cli;
  const { settings, config } = cli.load();
  const folder = process.cwd();
  const own = formatOf(folder);
  const chosen = isFormat(format) ? format : json ? 'json' : own;
  const named = typeof name === 'string' ? name : undefined;
  const place = named === undefined ? {} : await ownPlace(named, settings);
  const env = { ...variablesOf(cli), ...place };
  const apps = envoyApps({ cwd: folder, env, ...(named === undefined ? {} : { name: named }) });
  const from = importFrom(folder, chosen);
  io.out((await renderEcosystem(chosen, { from, name: named, env, apps })).trimEnd());
  const end = endOf(chosen, own);
  io.note(
    io.terminal('stdout').tty
      ? `save it as ecosystem${end} in ${folder}, and \`pm2 start ecosystem${end}\``
      : `\`pm2 start\` takes the file where its name ends with ${end}`,
  );
  const isByDefault = settings['envoy-config'].source === 'default' && !config.adminAddress;
  if (isByDefault && !existsSync(config.envoyConfig)) {
    io.note(
      `there is no ${config.envoyConfig}, which is Envoy's bootstrap by default: create it, or name another one with \`--envoy-config\``,
    );
  }
  if (chosen === 'json' || chosen === 'yaml') {
    io.note(
      'kill_timeout follows from drain-timeout and grace-period: after a change of those print it again',
    );
  }
  if (named !== undefined) io.note(`commands about it: \`pm2-envoy status --app ${named}\`, …`);
}

function isFormat(value: unknown): value is EcosystemFormat {
  return FORMATS.some((format) => format === value);
}

function variablesOf({ given }: CliContext): Record<string, string> {
  const { flags, configFile } = given;
  return {
    ...(configFile === undefined ? {} : { PM2_ENVOY_CONFIG: resolve(configFile) }),
    ...Object.fromEntries(Object.entries(flags).map(([key, text]) => [variableOf(key), text])),
  };
}

/** Where a second Envoy must not meet the first one. */
async function ownPlace(
  name: string,
  settings: LoadedConfig['settings'],
): Promise<Record<string, string>> {
  const isFree = (key: Key): boolean => settings[key].source === 'default';
  return {
    ...(isFree('serve-port') ? { PM2_ENVOY_SERVE_PORT: String(await freePort(8091)) } : {}),
    ...(isFree('run-dir') ? { PM2_ENVOY_RUN_DIR: `.${name}` } : {}),
  };
}

async function freePort(from: number): Promise<number> {
  for (let port = from; port < from + 100; port += 1) if (await canListen(port)) return port;
  throw new Pm2EnvoyError('config-invalid', `no port from ${from} on is free: set --serve-port`);
}

function canListen(port: number): Promise<boolean> {
  return new Promise((done) => {
    const server = createServer();
    server.once('error', () => done(false));
    server.listen(port, '127.0.0.1', () => server.close(() => done(true)));
  });
}

/** By its name where Node finds it from the folder; a global install it does not. */
function importFrom(folder: string, format: EcosystemFormat): string {
  const path = join(PACKAGE_ROOT, 'dist/index.js');
  if (installedFrom(folder) === realpathSync(PACKAGE_ROOT)) return 'pm2-envoy';
  return format === 'esm' ? pathToFileURL(path).href : path;
}

/** What a file `.js` is in a folder. */
function formatOf(folder: string): 'commonjs' | 'esm' {
  try {
    const { type } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
    return type === 'module' ? 'esm' : 'commonjs';
  } catch {
    const parent = dirname(folder);
    return parent === folder ? 'commonjs' : formatOf(parent);
  }
}

/** pm2 runs a file of another name as a program. */
function endOf(format: EcosystemFormat, own: EcosystemFormat): string {
  const ends = { commonjs: 'cjs', esm: 'mjs', json: 'json', yaml: 'yaml' };
  return `.config.${format === own ? 'js' : ends[format]}`;
}
