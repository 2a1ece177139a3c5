import type { PluginHost } from '../api/types.js';

/**
 * Replaces each `${NAME}` by the environment variable of that name, so that secrets stay out of the
 * configuration.
 *
 * @throws Error when one is not set, or empty; it never shows a value
 */
export function fillIn(text: string, env: PluginHost['env']): string {
  return text.replaceAll(/\$\{([A-Za-z_]\w*\})?/g, (_, rest: string | undefined) => {
    if (rest === undefined) throw new Error(`has a "\${" without a variable’s name and "}"`);
    const name = rest.slice(0, -1);
    const value = env[name];
    if (!value) throw new Error(`names the environment variable ${name}, which is not set`);
    return value;
  });
}

/** The same in every text of a JSON value; keys stay as they are. */
export function fillInAll(json: unknown, env: PluginHost['env']): unknown {
  if (typeof json === 'string') return fillIn(json, env);
  if (Array.isArray(json)) return json.map((entry) => fillInAll(entry, env));
  if (typeof json !== 'object' || json === null) return json;
  return Object.fromEntries(
    Object.entries(json).map(([key, value]) => [key, fillInAll(value, env)]),
  );
}
