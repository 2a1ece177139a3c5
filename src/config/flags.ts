import { parseArgs } from 'node:util';
import { messageOf, Pm2EnvoyError } from '../errors.js';
import { KEYS } from './schema.js';

/**
 * The settings among an app's own arguments.
 *
 * @throws Pm2EnvoyError `config-invalid` when they hold anything else
 */
export function readFlags(args: readonly string[]): {
  flags: Record<string, string>;
  configFile?: string;
} {
  const options = Object.fromEntries(
    ['config', ...KEYS].map((key) => [key, { type: 'string' as const }]),
  );
  try {
    const { values } = parseArgs({
      args: [...args],
      options,
      strict: true,
      allowPositionals: false,
    });
    const { config, ...flags } = values as Record<string, string>;
    return config === undefined ? { flags } : { flags, configFile: config };
  } catch (error) {
    throw new Pm2EnvoyError('config-invalid', messageOf(error), { cause: error });
  }
}
