import { loadConfig } from '../../src/config/load.js';
import { silentLog } from '../../src/log.js';
import type { PluginHost } from '../../src/plugins/api/types.js';
import { DrainPlugin } from '../../src/plugins/drain-plugin.js';
import { createPluginHost } from '../../src/plugins/host.js';

/** The host of the built-in plugin that drains, as the apps have it. */
export const drainHost: PluginHost = createPluginHost({
  config: loadConfig({ env: {}, cwd: '/nowhere' }).config,
  log: silentLog,
  plugins: [{ name: 'drain', create: DrainPlugin, options: {}, builtIn: true }],
});
