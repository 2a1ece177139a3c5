import { LONGEST_MS } from '../config/duration.js';
import { Pm2EnvoyError } from '../errors.js';
import { closest } from '../text.js';
import type { CommandSpec, HookFunction, HookSpec, Plugin } from './api/types.js';

/** Time limit of a user's hook that sets none. */
export const HOOK_TIMEOUT_MS = 10_000;

/** A hook, and whose it is. */
export interface RegisteredHook extends HookSpec {
  plugin: string;
  builtIn: boolean;
}

/** The commands and hooks of all plugins. */
export interface PluginRegistry {
  readonly commands: ReadonlyMap<string, CommandSpec>;
  readonly hookNames: readonly string[];
  /** Those of one name, in the order of their plugins. */
  hooksOf(name: string): readonly RegisteredHook[];
  /** @throws Pm2EnvoyError `plugin-invalid` */
  add(from: { name: string; builtIn: boolean }, plugin: Plugin): void;
  /**
   * Whether every hook is on an event of a command that there is; to be called when all plugins are in.
   *
   * @throws Pm2EnvoyError `plugin-invalid`
   */
  checkHookNames(): void;
}

/** Creates an empty registry. */
export function createPluginRegistry(): PluginRegistry {
  const commands = new Map<string, CommandSpec>();
  const hooks = new Map<string, RegisteredHook[]>();

  const addCommand = (plugin: string, name: string, spec: CommandSpec): void => {
    if (commands.has(name)) {
      throw invalid(plugin, `its command ${name} already exists`);
    }
    if (!isTextList(spec?.lifecycleEvents)) {
      throw invalid(plugin, `its command ${name} has no list of lifecycleEvents`);
    }
    commands.set(name, spec);
  };
  const checkHookName = (name: string): void => {
    const known = [...commands].flatMap(([command, spec]) =>
      spec.lifecycleEvents.map((event) => `${command}:${event}`),
    );
    if (known.includes(name.replace(/^(before|after):/, ''))) return;
    const plugin = hooks.get(name)?.[0]?.plugin ?? '';
    const near = closest(
      name,
      known.flatMap((event) => [event, `before:${event}`, `after:${event}`]),
    );
    throw invalid(
      plugin,
      `its hook ${name} names no lifecycle event${near ? ` (did you mean ${near}?)` : ''}; known are ${known.join(', ')}, each also with before: or after:`,
    );
  };

  return {
    commands,
    get hookNames() {
      return [...hooks.keys()];
    },
    hooksOf: (name) => hooks.get(name) ?? [],
    add: (from, plugin) => {
      for (const [name, spec] of Object.entries(plugin.commands ?? {})) {
        addCommand(from.name, name, spec);
      }
      for (const [name, hook] of Object.entries(plugin.hooks ?? {})) {
        const spec = checkedHook(from.name, name, hook);
        const run: HookFunction = (context) => spec.run.call(plugin, context);
        const entry = { ...spec, run, plugin: from.name, builtIn: from.builtIn };
        hooks.set(name, [...(hooks.get(name) ?? []), entry]);
      }
    },
    checkHookNames: () => {
      for (const name of hooks.keys()) checkHookName(name);
    },
  };
}

/** The error of a plugin that can't be used. */
export function invalid(plugin: string, reason: string, cause?: unknown): Pm2EnvoyError {
  return new Pm2EnvoyError('plugin-invalid', `plugin ${plugin} can't be used: ${reason}`, {
    cause,
  });
}

function checkedHook(plugin: string, name: string, hook: HookSpec | HookFunction): HookSpec {
  const spec = typeof hook === 'function' ? { run: hook } : hook;
  if (typeof spec?.run !== 'function') {
    throw invalid(
      plugin,
      `its hook ${name} is neither a function nor an object with a function run`,
    );
  }
  const { timeoutMs = HOOK_TIMEOUT_MS } = spec;
  if (!(timeoutMs > 0 && timeoutMs <= LONGEST_MS)) {
    throw invalid(
      plugin,
      `its hook ${name} has timeoutMs ${timeoutMs}; allowed: 1 to ${LONGEST_MS}`,
    );
  }
  return spec;
}

function isTextList(value: unknown): boolean {
  return Array.isArray(value) && value.every((entry) => typeof entry === 'string');
}
