import type { Config, PluginEntry } from '../../config/config.js';
import { messageOf } from '../../errors.js';
import { silentLog } from '../../log.js';
import type { HookSpec, Plugin, PluginSchema } from '../../plugins/api/types.js';
import { DrainPlugin } from '../../plugins/drain-plugin.js';
import { createPluginHost, type LoadedPlugin } from '../../plugins/host.js';
import { loadPlugins } from '../../plugins/load.js';
import { allowedOf } from '../../plugins/options.js';

/** One plugin as it is configured. */
export interface ListedPlugin {
  path: string;
  /** Names of its hooks; a required one has `(required)` behind it. */
  hooks: readonly string[];
  /** As they are typed, and what each is for. */
  commands: Readonly<Record<string, string>>;
  /** Null: it has no schema. */
  options: Readonly<Record<string, ListedOption>> | null;
  /** Why it can't be used. */
  problem: string | null;
}

/** One option of a plugin. */
export interface ListedOption {
  doc: string;
  allowed: string;
  /** Undefined: it has to be given; null: it may be left out. */
  default?: unknown;
}

/** What a configured plugin brings along. Never rejects: what is wrong with it is its `problem`. */
export async function lookAt(
  entry: PluginEntry,
  config: Config,
  env?: NodeJS.ProcessEnv,
): Promise<ListedPlugin> {
  const found: ListedPlugin = {
    path: entry.path,
    hooks: [],
    commands: {},
    options: null,
    problem: null,
  };
  try {
    const [loaded] = await loadPlugins([entry]);
    if (!loaded) return found;
    if (loaded.create.schema) found.options = optionsOf(loaded.create.schema);
    const { hooks = {}, commands = {} } = construct(loaded, config, env);
    found.hooks = Object.entries(hooks).map(
      ([name, hook]) => `${name}${isRequired(hook) ? ' (required)' : ''}`,
    );
    found.commands = Object.fromEntries(
      Object.entries(commands)
        .filter(([, { internal }]) => !internal)
        .map(([name, { usage }]) => [name.replaceAll(':', ' '), usage]),
    );
  } catch (error) {
    found.problem = messageOf(error);
  }
  return found;
}

/** The plugin as lines of text. Pure. */
export function describePlugin({
  path,
  hooks,
  commands,
  options,
  problem,
}: ListedPlugin): string[] {
  const row = (what: string, text: string): string => `  ${what.padEnd(9)}${text}`;
  return [
    path,
    ...(problem === null ? [] : [row('PROBLEM', problem)]),
    ...hooks.map((hook) => row('hook', hook)),
    ...Object.entries(commands).map(([name, usage]) => row('command', `${name}: ${usage}`)),
    ...Object.entries(options ?? {}).map(([name, option]) =>
      row('option', `${name}: ${option.doc} ${describeOption(option)}`),
    ),
  ];
}

function describeOption({ allowed, default: value }: ListedOption): string {
  if (value === undefined) return `Required: ${allowed}.`;
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  return `Allowed: ${allowed}.${value === null ? '' : ` Default: ${text}.`}`;
}

/** As the apps do, beside pm2-envoy's own. */
function construct(loaded: LoadedPlugin, config: Config, env?: NodeJS.ProcessEnv): Plugin {
  let instance: Plugin = {};
  const create = class extends loaded.create {
    constructor(...given: ConstructorParameters<LoadedPlugin['create']>) {
      super(...given);
      instance = this;
    }
  };
  const own = { name: 'drain', create: DrainPlugin, options: {}, builtIn: true };
  createPluginHost({ config, log: silentLog, plugins: [own, { ...loaded, create }], env });
  return instance;
}

function isRequired(hook: unknown): boolean {
  return typeof hook === 'object' && hook !== null && (hook as HookSpec).required === true;
}

function optionsOf(schema: PluginSchema): Record<string, ListedOption> {
  return Object.fromEntries(
    Object.entries(schema).map(([name, { doc, format, default: value }]) => [
      name,
      { doc, allowed: allowedOf(format), ...(value === undefined ? {} : { default: value }) },
    ]),
  );
}
