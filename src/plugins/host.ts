import type { Config } from '../config/config.js';
import { LONGEST_MS } from '../config/duration.js';
import { isPm2EnvoyError, messageOf, Pm2EnvoyError } from '../errors.js';
import type { Log } from '../log.js';
import { closest } from '../text.js';
import type {
  CommandSpec,
  HookContext,
  HookFunction,
  HookSpec,
  HostCall,
  Plugin,
  PluginClass,
  PluginHost,
} from './api/types.js';
import { readOptions } from './options.js';

/** Time limit of a user's hook that sets none. */
export const HOOK_TIMEOUT_MS = 10_000;

/** A class to be constructed, and what it is called in messages. */
export interface LoadedPlugin {
  name: string;
  create: PluginClass;
  options: Readonly<Record<string, unknown>>;
  /** Part of pm2-envoy: trusted to be bounded by itself, so a drain waits for its hooks. */
  builtIn?: boolean;
}

/** Constructs the plugins and collects their commands and hooks. */
export function createPluginHost(options: {
  config: Config;
  log: Log;
  plugins: readonly LoadedPlugin[];
  /** This process's own if left out. */
  env?: PluginHost['env'] | undefined;
}): PluginHost {
  const { config, log, plugins, env = process.env } = options;
  const commands = new Map<string, CommandSpec>();
  const hooks = new Map<string, RegisteredHook[]>();
  const failures = new Map<string, number>();
  const underWay = new Set<Promise<void>>();

  const host: PluginHost = {
    config,
    log,
    env,
    commands,
    get hookNames() {
      return [...hooks.keys()];
    },
    failures,
    run: (command, call = {}) => runCommand(command, call),
    settled: async () => {
      let timer: NodeJS.Timeout | undefined;
      const limit = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, HOOK_TIMEOUT_MS);
      });
      await Promise.race([Promise.all(underWay), limit]);
      clearTimeout(timer);
    },
  };
  for (const plugin of plugins) register(plugin);
  for (const name of hooks.keys()) checkHookName(name);
  return host;

  function register(loaded: LoadedPlugin): void {
    const plugin = construct(loaded, host);
    for (const [name, spec] of Object.entries(plugin.commands ?? {})) {
      if (commands.has(name)) {
        throw invalid(loaded.name, `its command ${name} already exists`);
      }
      if (!isTextList(spec?.lifecycleEvents)) {
        throw invalid(loaded.name, `its command ${name} has no list of lifecycleEvents`);
      }
      commands.set(name, spec);
    }
    for (const [name, hook] of Object.entries(plugin.hooks ?? {})) {
      const spec = typeof hook === 'function' ? { run: hook } : hook;
      if (typeof spec?.run !== 'function') {
        throw invalid(
          loaded.name,
          `its hook ${name} is neither a function nor an object with a function run`,
        );
      }
      const { timeoutMs = HOOK_TIMEOUT_MS } = spec;
      if (!(timeoutMs > 0 && timeoutMs <= LONGEST_MS)) {
        throw invalid(
          loaded.name,
          `its hook ${name} has timeoutMs ${timeoutMs}; allowed: 1 to ${LONGEST_MS}`,
        );
      }
      const run: HookFunction = (context) => spec.run.call(plugin, context);
      const entry = { ...spec, run, plugin: loaded.name, builtIn: loaded.builtIn === true };
      hooks.set(name, [...(hooks.get(name) ?? []), entry]);
    }
  }

  function checkHookName(name: string): void {
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
  }

  async function runCommand(command: string, call: HostCall): Promise<void> {
    const spec = commands.get(command);
    if (!spec) throw new Pm2EnvoyError('plugin-invalid', `there is no command ${command}`);
    const from = call.from === undefined ? 0 : spec.lifecycleEvents.indexOf(call.from);
    for (const event of spec.lifecycleEvents.slice(Math.max(0, from))) {
      if (call.skips?.(event)) continue;
      call.onEvent?.(event);
      let isDone = true;
      for (const stage of ['before:', '', 'after:']) {
        // No one is to hear of something that pm2-envoy itself could not do.
        if (!isDone) continue;
        for (const hook of hooks.get(`${stage}${command}:${event}`) ?? []) {
          const name = `${stage}${command}:${event}`;
          const at = { name, command, event, call };
          if (!(call.drain || call.goesOn)) await runHook(hook, at);
          else if (!(await runBeside(hook, at))) isDone = false;
        }
      }
    }
  }

  /** Resolves to false when what pm2-envoy does itself at this event has failed. */
  async function runBeside(hook: RegisteredHook, at: HookCall): Promise<boolean> {
    let hasFailed = false;
    const run = runHook(hook, at).catch((error: unknown) => {
      hasFailed = true;
      failures.set(at.name, (failures.get(at.name) ?? 0) + 1);
      log.error({ hook: at.name, plugin: hook.plugin }, messageOf(error));
    });
    // What pm2-envoy does itself is waited for right here, and in its own drain only.
    if (!hook.builtIn) {
      underWay.add(run);
      void run.finally(() => underWay.delete(run));
    }
    if (hook.builtIn || isWaitedFor(hook, at)) await run;
    return !(hook.builtIn && hasFailed);
  }

  async function runHook(hook: RegisteredHook, at: HookCall): Promise<void> {
    const { limitMs, why } = limitOf(hook, at);
    const abort = new AbortController();
    const context: HookContext = {
      command: at.command,
      event: at.event,
      invocation: at.call.invocation ?? { args: [], options: {} },
      drain: at.call.drain,
      log,
      signal: abort.signal,
    };
    let timer: NodeJS.Timeout | undefined;
    const overdue = new Promise<never>((_, reject) => {
      if (limitMs === undefined) return;
      timer = setTimeout(() => {
        abort.abort();
        reject(
          new Error(
            `hook ${at.name} of plugin ${hook.plugin} did not end within ${limitMs} ms${why}`,
          ),
        );
      }, limitMs);
    });
    try {
      await Promise.race([(async () => hook.run(context))(), overdue]);
    } catch (error) {
      if (hook.builtIn || abort.signal.aborted) throw error;
      const message = `hook ${at.name} of plugin ${hook.plugin} failed: ${messageOf(error)}`;
      throw new Error(message, { cause: error });
    } finally {
      clearTimeout(timer);
    }
  }
}

interface RegisteredHook extends HookSpec {
  plugin: string;
  builtIn: boolean;
}

interface HookCall {
  name: string;
  command: string;
  event: string;
  call: HostCall;
}

function isWaitedFor(hook: RegisteredHook, { name }: HookCall): boolean {
  return hook.required === true && name.startsWith('before:');
}

/** Undefined: what is built in is bounded by itself. What a drain waits for must not outlast it. */
function limitOf(hook: RegisteredHook, at: HookCall): { limitMs: number | undefined; why: string } {
  if (hook.builtIn) return { limitMs: undefined, why: '' };
  const limitMs = hook.timeoutMs ?? HOOK_TIMEOUT_MS;
  const leftMs = isWaitedFor(hook, at) ? at.call.drain?.timeLeftMs() : undefined;
  if (leftMs === undefined || leftMs >= limitMs) return { limitMs, why: '' };
  return { limitMs: Math.ceil(leftMs), why: ', the rest of the drain’s time' };
}

function isTextList(value: unknown): boolean {
  return Array.isArray(value) && value.every((entry) => typeof entry === 'string');
}

function construct(loaded: LoadedPlugin, host: PluginHost): Plugin {
  try {
    const { schema } = loaded.create;
    return new loaded.create(
      host,
      schema ? readOptions(schema, loaded.options, host.env) : loaded.options,
    );
  } catch (error) {
    // What a plugin of ours says of its options needs no more words.
    const isOurs = isPm2EnvoyError(error, 'plugin-invalid');
    const reason = isOurs ? error.message : `its constructor failed: ${messageOf(error)}`;
    throw invalid(loaded.name, reason, error);
  }
}

function invalid(plugin: string, reason: string, cause?: unknown): Pm2EnvoyError {
  return new Pm2EnvoyError('plugin-invalid', `plugin ${plugin} can't be used: ${reason}`, {
    cause,
  });
}
