import type { CommandSpec, HookFunction, Plugin, PluginHost } from '../../plugins/api/types.js';
import type { CliContext } from '../terminal/context.js';
import { layOut } from '../terminal/layout.js';
import { statusRows } from '../view/status-view.js';
import { createStatusSource } from './status-source.js';
import { watchStatus } from './watch.js';

/** `pm2-envoy status`: what the manager knows, or what Envoy itself says when the manager is down. */
export class StatusPlugin implements Plugin {
  readonly commands: Readonly<Record<string, CommandSpec>> = {
    status: {
      usage: 'Show Envoy, its open connections and the drain in progress',
      lifecycleEvents: ['show'],
      options: {
        '--watch':
          'keep showing it until Ctrl-C: redrawn on a terminal, elsewhere one line per change; with --json, one line of JSON per change',
      },
    },
  };
  readonly hooks: Readonly<Record<string, HookFunction>>;

  constructor(host: PluginHost, { cli }: { cli: CliContext }) {
    this.hooks = {
      'status:show': async ({ invocation: { options } }) => {
        await (options['watch'] === true ? watchStatus(cli, host) : showStatus(cli, host));
      },
    };
  }
}

async function showStatus(cli: CliContext, host: PluginHost): Promise<void> {
  const { config } = cli.load();
  const { status, note } = await createStatusSource(config, host).read();
  if (note !== undefined) cli.io.say(note);
  if (cli.json) {
    cli.io.out(JSON.stringify(status, undefined, 2));
    return;
  }
  const terminal = cli.io.terminal('stdout');
  const width = terminal.tty ? terminal.width : Number.POSITIVE_INFINITY;
  cli.io.out(layOut(statusRows(status), { ...terminal, width }, 'wrap').join('\n'));
}
