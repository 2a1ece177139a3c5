import { EXIT } from '../../exit-codes.js';
import type { CommandSpec, HookFunction, Plugin, PluginHost } from '../../plugins/api/types.js';
import { READY_MADE_NAMES } from '../../plugins/load.js';
import { describePlugin, lookAt } from '../plugin/look.js';
import { nameFault, writeTemplate } from '../plugin/template.js';
import type { CliContext } from '../terminal/context.js';
import { whatCounts } from './config.js';

/** `pm2-envoy plugin list` and `pm2-envoy plugin create`. */
export class PluginPlugin implements Plugin {
  readonly commands: Readonly<Record<string, CommandSpec>>;
  readonly hooks: Readonly<Record<string, HookFunction>>;

  constructor(_host: PluginHost, { cli }: { cli: CliContext }) {
    this.commands = {
      'plugin:list': {
        usage: 'Show the configured plugins: their hooks, commands and options',
        lifecycleEvents: ['show'],
      },
      'plugin:create': {
        usage: 'Make a folder with a plugin and its test, to begin with',
        lifecycleEvents: ['write'],
        arguments: '<name>',
        main: async ({ args: [name = ''] }) => {
          const fault = nameFault(name);
          if (fault === undefined) return undefined;
          cli.io.note(`pm2-envoy: plugin create ${name}: ${fault}`);
          return EXIT.usage;
        },
      },
    };
    this.hooks = {
      'plugin:list:show': () => list(cli),
      'plugin:create:write': ({ invocation: { args } }) => create(cli, args[0] ?? ''),
    };
  }
}

async function list(cli: CliContext): Promise<void> {
  const { io, json } = cli;
  const { config, env } = await whatCounts(cli);
  const plugins = await Promise.all(config.plugins.map((entry) => lookAt(entry, config, env)));
  if (plugins.some(({ problem }) => problem !== null)) cli.endWith(EXIT.configuration);
  const notUsed = READY_MADE_NAMES.filter((name) => !plugins.some(({ path }) => path === name));
  if (json) {
    io.out(JSON.stringify({ plugins, notUsed }, undefined, 2));
    return;
  }
  if (plugins.length === 0) io.out('no plugin is configured');
  for (const plugin of plugins) for (const line of describePlugin(plugin)) io.out(line);
  if (notUsed.length > 0) io.out(`not used: ${notUsed.join(', ')}`);
}

function create({ io, json }: CliContext, name: string): void {
  const next = writeTemplate(name);
  if (json) io.out(JSON.stringify({ folder: name, next }));
  else io.out([`${name} is made; its test: ${next.join(' && ')}`].join('\n'));
}
