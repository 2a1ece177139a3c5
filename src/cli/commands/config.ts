import { maskSettings } from '../../config/load.js';
import { KEYS } from '../../config/schema.js';
import type { CommandSpec, HookFunction, Plugin, PluginHost } from '../../plugins/api/types.js';
import type { CliContext } from '../terminal/context.js';

/** `pm2-envoy config`: the effective configuration, and where each value came from. */
export class ConfigPlugin implements Plugin {
  readonly commands: Readonly<Record<string, CommandSpec>> = {
    config: {
      usage: 'Show the effective configuration and where each value came from',
      lifecycleEvents: ['show'],
    },
  };
  readonly hooks: Readonly<Record<string, HookFunction>>;

  constructor(_host: PluginHost, { cli }: { cli: CliContext }) {
    this.hooks = { 'config:show': () => showConfig(cli) };
  }
}

function showConfig({ io, json, load }: CliContext): void {
  const settings = maskSettings(load().settings);
  if (json) {
    io.out(JSON.stringify(settings, undefined, 2));
    return;
  }
  const rows = KEYS.map((key) => [key, textOf(settings[key].value), settings[key].source]);
  const widthOf = (column: number): number =>
    Math.max(...rows.map((row) => row[column]?.length ?? 0));
  const widths = [widthOf(0), Math.min(40, widthOf(1))];
  for (const [key = '', value = '', source = ''] of rows) {
    io.out(`${key.padEnd(widths[0] ?? 0)}  ${value.padEnd(widths[1] ?? 0)}  ${source}`);
  }
}

function textOf(value: unknown): string {
  if (value === null) return '-';
  return typeof value === 'string' ? value : JSON.stringify(value);
}
