import { createRequire } from 'node:module';
import { isAbsolute, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { PluginEntry } from '../config/config.js';
import { messageOf, Pm2EnvoyError, systemCodeOf } from '../errors.js';
import type { LoadedPlugin } from './host.js';
import type { PluginClass } from './types.js';

/**
 * Imports the configured plugins. A module exports the class as `default`, as `plugin`, or as
 * `module.exports`; a package's name is looked up from the working directory.
 *
 * @throws Pm2EnvoyError `plugin-invalid`
 */
export async function loadPlugins(entries: readonly PluginEntry[]): Promise<LoadedPlugin[]> {
  return Promise.all(entries.map(loadPlugin));
}

async function loadPlugin({ path, options }: PluginEntry): Promise<LoadedPlugin> {
  let module: Record<string, unknown>;
  try {
    module = await import(locate(path));
  } catch (error) {
    throw new Pm2EnvoyError(
      'plugin-invalid',
      `plugin ${path} can't be loaded: ${messageOf(error)}`,
      {
        cause: error,
      },
    );
  }
  const exported = exportsOf(module).find(isClass);
  if (!exported) {
    throw new Pm2EnvoyError('plugin-invalid', `plugin ${path} exports no class as its default`);
  }
  return { name: path, create: exported, options };
}

function locate(path: string): string {
  if (isAbsolute(path)) return pathToFileURL(path).href;
  try {
    return pathToFileURL(createRequire(join(process.cwd(), 'package.json')).resolve(path)).href;
  } catch (error) {
    // A package for import only: found where pm2-envoy itself is installed.
    if (systemCodeOf(error) === 'ERR_PACKAGE_PATH_NOT_EXPORTED') return path;
    throw error;
  }
}

/** `export default`, `export { plugin }`, `module.exports`, and what TypeScript makes of them for CommonJS. */
function exportsOf(module: Record<string, unknown>): unknown[] {
  const inner = (module['default'] ?? {}) as Record<string, unknown>;
  return [module['default'], module['plugin'], inner['default'], inner['plugin']];
}

function isClass(value: unknown): value is PluginClass {
  return typeof value === 'function' && typeof value.prototype === 'object';
}
