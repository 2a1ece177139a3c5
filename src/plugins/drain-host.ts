import type { Config } from '../config/config.js';
import type { Log } from '../log.js';
import type { PluginHost } from './api/types.js';
import { DrainPlugin } from './drain-plugin.js';
import { createPluginHost } from './host.js';
import { loadPlugins } from './load.js';

/**
 * The plugin host of a process that drains: pm2-envoy's own plugin and the user's.
 *
 * @param env the environment that the plugins are for, when another process checks them
 * @throws Pm2EnvoyError `plugin-invalid`
 */
export async function createDrainHost(
  config: Config,
  log: Log,
  env?: PluginHost['env'],
): Promise<PluginHost> {
  const own = { name: 'drain', create: DrainPlugin, options: {}, builtIn: true };
  const plugins = [own, ...(await loadPlugins(config.plugins))];
  return createPluginHost({ config, log, plugins, env });
}

/**
 * The same, without the user's plugins where they can't be loaded: what is in service has to be drained all the
 * same. `pluginError` says why.
 */
export async function createHostOrBareOne(
  config: Config,
  log: Log,
): Promise<{ host: PluginHost; pluginError: unknown }> {
  try {
    return { host: await createDrainHost(config, log), pluginError: undefined };
  } catch (pluginError) {
    return { host: await createDrainHost({ ...config, plugins: [] }, log), pluginError };
  }
}
