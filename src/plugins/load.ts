import { createRequire } from 'node:module';
import { isAbsolute, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { PluginEntry } from '../config/config.js';
import { messageOf, Pm2EnvoyError, systemCodeOf } from '../errors.js';
import { closest } from '../text.js';
import type { PluginClass } from './api/types.js';
import type { LoadedPlugin } from './host.js';

/** The plugins included in pm2-envoy: found by name, and loaded only when configured. */
const READY_MADE = new Map<string, () => Promise<Record<string, unknown>>>([
  ['pm2-envoy/command', () => import('./ready-made/command.js')],
  ['pm2-envoy/webhook', () => import('./ready-made/webhook.js')],
]);

/** Their names. */
export const READY_MADE_NAMES: readonly string[] = [...READY_MADE.keys()];

/** How long the import of a plugin may take: its modules, and what it awaits at its top level. */
const IMPORT_LIMIT_MS = 15_000;

/**
 * Imports the configured plugins. A module exports the class as `default`, as `plugin`, or as
 * `module.exports`; a package's name is looked up from the working directory, but those of pm2-envoy's own
 * are always its own.
 *
 * @param limitMs how long each import may take
 * @throws Pm2EnvoyError `plugin-invalid`; `plugin-timeout` for an import that does not end in time
 */
export async function loadPlugins(
  entries: readonly PluginEntry[],
  limitMs: number = IMPORT_LIMIT_MS,
): Promise<LoadedPlugin[]> {
  return Promise.all(entries.map((entry) => loadPlugin(entry, limitMs)));
}

async function loadPlugin({ path, options }: PluginEntry, limitMs: number): Promise<LoadedPlugin> {
  let module: Record<string, unknown>;
  try {
    module = await within(limitMs, READY_MADE.get(path)?.() ?? import(locate(path)));
  } catch (cause) {
    if (cause === OVERDUE) {
      throw new Pm2EnvoyError(
        'plugin-timeout',
        `plugin ${path} can't be loaded: its import did not end within ${limitMs} ms; what does it await at its top level?`,
      );
    }
    const near = closest(path, READY_MADE_NAMES);
    const hint = near ? ` (did you mean ${near}?)` : '';
    throw new Pm2EnvoyError(
      'plugin-invalid',
      `plugin ${path} can't be loaded${hint}: ${reasonOf(cause, path)}`,
      { cause },
    );
  }
  const exported = exportsOf(module).find(isClass);
  if (!exported) {
    throw new Pm2EnvoyError('plugin-invalid', `plugin ${path} exports no class as its default`);
  }
  return { name: path, create: exported, options };
}

/** Node names the file again, and who imports it: a file of pm2-envoy. */
function reasonOf(cause: unknown, path: string): string {
  const isMissing = messageOf(cause).startsWith(`Cannot find module '${path}'`);
  return isMissing ? 'there is no such file or package' : messageOf(cause);
}

const OVERDUE = Symbol('overdue');

/** An import can't be called off; what it still does, it does beside everything else. */
async function within<T>(limitMs: number, imported: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const overdue = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(OVERDUE), limitMs);
  });
  try {
    return await Promise.race([imported, overdue]);
  } finally {
    clearTimeout(timer);
  }
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
