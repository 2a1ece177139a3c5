import type { Config } from '../config/config.js';
import { isPm2EnvoyError, messageOf, Pm2EnvoyError } from '../errors.js';
import type { Log } from '../log.js';
import type { Plugin, PluginClass, PluginHost } from './api/types.js';
import { createHookCalls } from './hook-calls.js';
import { readOptions } from './options.js';
import { createPluginRegistry, invalid } from './registry.js';

/** A class to be constructed, and what it is called in messages. */
export interface LoadedPlugin {
  name: string;
  create: PluginClass;
  options: Readonly<Record<string, unknown>>;
  /** Part of pm2-envoy: trusted to be bounded by itself, so a drain waits for its hooks. */
  builtIn?: boolean;
}

/**
 * Constructs the plugins and collects their commands and hooks. `config` and `log` are read at each use: the command line
 * constructs the plugins before it knows its options.
 */
export function createPluginHost(options: {
  readonly config: Config;
  readonly log: Log;
  plugins: readonly LoadedPlugin[];
  /** This process's own if left out. */
  env?: PluginHost['env'] | undefined;
}): PluginHost {
  const { plugins, env = process.env } = options;
  const registry = createPluginRegistry();
  const calls = createHookCalls(options);
  const host: PluginHost = {
    get config() {
      return options.config;
    },
    get log() {
      return options.log;
    },
    env,
    commands: registry.commands,
    get hookNames() {
      return registry.hookNames;
    },
    failures: calls.failures,
    settled: calls.settled,
    run: async (command, call = {}) => {
      const spec = registry.commands.get(command);
      if (!spec) throw new Pm2EnvoyError('plugin-invalid', `there is no command ${command}`);
      const from = call.from === undefined ? 0 : spec.lifecycleEvents.indexOf(call.from);
      for (const event of spec.lifecycleEvents.slice(Math.max(0, from))) {
        if (call.skips?.(event)) continue;
        call.onEvent?.(event);
        let isDone = true;
        for (const stage of ['before:', '', 'after:']) {
          // No one is to hear of something that pm2-envoy itself could not do.
          if (!isDone) continue;
          const name = `${stage}${command}:${event}`;
          for (const hook of registry.hooksOf(name)) {
            const at = { name, command, event, call };
            if (!(call.drain || call.goesOn)) await calls.run(hook, at);
            else if (!(await calls.runBeside(hook, at))) isDone = false;
          }
        }
      }
    },
  };
  for (const loaded of plugins) {
    const { name, builtIn = false } = loaded;
    registry.add({ name, builtIn }, construct(loaded, host));
  }
  registry.checkHookNames();
  return host;
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
