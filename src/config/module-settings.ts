import { isAbsolute } from 'node:path';
import { FORMATS } from './formats.js';
import { isKey, specOf } from './schema.js';

/** Name of the pm2 module, and of the variable in which pm2 hands it what `pm2 set` has set, as JSON. */
export const MODULE = 'pm2-envoy';

/** What `pm2 set pm2-envoy:KEY VALUE` has set. */
export interface ModuleSettings {
  /** Values by key, as a JSON file would have them. */
  values: Readonly<Record<string, unknown>>;
  /** `pm2 set pm2-envoy:config FILE`: in place of PM2_ENVOY_CONFIG. */
  config: string | undefined;
  /** `pm2 set pm2-envoy:profile NAME`: in place of PM2_ENVOY_PROFILE. */
  profile: string | undefined;
}

/** Where a key of the module is set, as people type it. */
export function moduleSourceOf(key: string): string {
  return `pm2 set ${MODULE}:${key}`;
}

/**
 * Reads them from the variable that pm2 has given the module; `problems` gets a line for each that can't be meant.
 * pm2 starts a module in the module's own folder, which an upgrade deletes: relative paths lead nowhere.
 */
export function readModuleSettings(
  env: Readonly<Record<string, string | undefined>>,
  problems: string[],
): ModuleSettings {
  const { config, profile, ...texts } = parse(env[MODULE], problems);
  const values = Object.fromEntries(
    Object.entries(texts).map(([key, value]) => [key, typed(key, value)]),
  );
  const paths = [...(config === undefined ? [] : [['config', config]]), ...pathsIn(values)];
  for (const [key, path] of paths) {
    if (typeof path !== 'string' || path === '' || isAbsolute(path)) continue;
    problems.push(
      `${key}: ${JSON.stringify(path)} (from ${moduleSourceOf(String(key))}) must be an absolute path: a pm2 module has no folder of yours to start from`,
    );
  }
  return { values, config: textOf(config), profile: textOf(profile) };
}

function parse(text: string | undefined, problems: string[]): Record<string, unknown> {
  // pm2 before 7 hands `[object Object]` to a module of which nothing is set.
  if (!text?.startsWith('{')) return {};
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch {
    problems.push(`the variable ${MODULE}, which pm2 sets for its module, is not valid JSON`);
    return {};
  }
}

/** pm2 knows texts only. */
function typed(key: string, value: unknown): unknown {
  if (typeof value !== 'string' || !isKey(key)) return value;
  return FORMATS[specOf(key).format].fromText?.(value) ?? value;
}

function pathsIn(values: Readonly<Record<string, unknown>>): [string, unknown][] {
  return Object.entries(values).flatMap(([key, value]): [string, unknown][] => {
    if (!isKey(key)) return [];
    if (specOf(key).format === 'path') return [[key, value]];
    if (key !== 'plugins' || !Array.isArray(value)) return [];
    const paths: unknown[] = value.map((entry) => (Array.isArray(entry) ? entry[0] : entry));
    return paths
      .filter((path) => typeof path === 'string' && path.startsWith('.'))
      .map((path) => [key, path]);
  });
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}
