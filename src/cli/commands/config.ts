import type { Config } from '../../config/config.js';
import { type LoadedConfig, maskSettings, type Setting } from '../../config/load.js';
import { KEYS, type Key } from '../../config/schema.js';
import { describeTimeline, timelineOf } from '../../config/timeline.js';
import { findEnvoy } from '../../envoy/binary.js';
import { findRunDir } from '../../host/run-dir.js';
import type { CommandSpec, HookFunction, Plugin, PluginHost } from '../../plugins/api/types.js';
import { appConfig } from '../../pm2/app-config.js';
import { findApp } from '../../pm2/find-app.js';
import type { CliContext } from '../terminal/context.js';
import { clean, foldBeside } from '../terminal/fit.js';

/** `pm2-envoy config`: the effective configuration, and where each value came from. */
export class ConfigPlugin implements Plugin {
  readonly commands: Readonly<Record<string, CommandSpec>> = {
    config: {
      usage:
        'Show the effective configuration and where each value came from: that of the running app, or of this shell if it has settings of its own',
      lifecycleEvents: ['show'],
    },
  };
  readonly hooks: Readonly<Record<string, HookFunction>>;

  constructor(_host: PluginHost, { cli }: { cli: CliContext }) {
    this.hooks = { 'config:show': () => showConfig(cli) };
  }
}

/** What the column of sources gets on a terminal, with the gaps before it. */
const SOURCE_WIDTH = 24;

async function showConfig(cli: CliContext): Promise<void> {
  const { io, json } = cli;
  const { settings: all, config, env } = await whatCounts(cli);
  const settings = { ...maskSettings(all), ...found(config, env) };
  if (json) {
    io.out(JSON.stringify(settings, undefined, 2));
    return;
  }
  const rows = KEYS.map((key) => [key, textOf(settings[key].value), settings[key].source]);
  const widthOf = (column: number): number =>
    Math.max(...rows.map((row) => row[column]?.length ?? 0));
  const { live, width, unicode } = io.terminal('stdout');
  const keyWidth = widthOf(0);
  const room = live ? width - keyWidth - SOURCE_WIDTH : Number.POSITIVE_INFINITY;
  const valueWidth = Math.min(40, widthOf(1), Math.max(0, room));
  for (const [key = '', value = '', source = ''] of rows) {
    const label = `${key.padEnd(keyWidth)}  `;
    const line = `${label}${value.padEnd(valueWidth)}  ${source}`;
    const texts = [value, source].map((text) => clean(text, unicode));
    io.out(live && line.length > width ? foldBeside(label, texts, width) : line);
  }
  io.say(`a drain: ${describeTimeline(timelineOf(config))}`, 'stdout');
}

/** What is looked for where nothing is set, as the apps would find it. */
function found(
  { envoyBin, runDir }: Config,
  env: NodeJS.ProcessEnv | undefined,
): Partial<Record<Key, Setting>> {
  return {
    ...(envoyBin === undefined ? { 'envoy-bin': foundEnvoy(env) } : {}),
    ...(runDir === undefined
      ? { 'run-dir': { value: findRunDir(undefined), source: 'default (found)' } }
      : {}),
  };
}

function foundEnvoy(env: NodeJS.ProcessEnv | undefined): Setting {
  try {
    const { path, source } = findEnvoy(undefined, env);
    return { value: path, source: `default (${source})` };
  } catch {
    return { value: null, source: 'default (none found)' };
  }
}

/** The running app's, which is what counts on this host; this shell's where it was given some, or there is no app. */
export async function whatCounts(
  cli: CliContext,
): Promise<LoadedConfig & { env?: NodeJS.ProcessEnv }> {
  const own = cli.load();
  if (cli.isGivenSettings || own.config.adminAddress) return own;
  const app = await findApp(own).catch(() => undefined);
  if (!app) {
    cli.io.say('no pm2 app runs Envoy here: these are the settings of this shell');
    return own;
  }
  const loaded = appConfig(app.process);
  const differing = KEYS.filter(
    (key) => JSON.stringify(own.settings[key].value) !== JSON.stringify(loaded.settings[key].value),
  );
  const shell =
    differing.length === 0 ? '' : `; this shell has different ones: ${differing.join(', ')}`;
  cli.io.say(
    `these are the settings of the app ${app.process.name} (PM2_HOME ${app.home}) that its next start will use${shell}`,
  );
  return { ...loaded, env: app.process.env };
}

function textOf(value: unknown): string {
  if (value === null) return '-';
  return typeof value === 'string' ? value : JSON.stringify(value);
}
