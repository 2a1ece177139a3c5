import { readFlags } from '../config/flags.js';
import { type LoadedConfig, loadConfig } from '../config/load.js';
import type { Pm2Process } from './daemon.js';

/**
 * The configuration that a pm2 app has: from its own environment, folder and arguments.
 *
 * @param env variables to set in it
 * @throws Pm2EnvoyError `config-invalid`
 */
export function appConfig(
  app: Pick<Pm2Process, 'env' | 'cwd' | 'args'>,
  env: Readonly<Record<string, string>> = {},
): LoadedConfig {
  return loadConfig({ ...readFlags(app.args), env: { ...app.env, ...env }, cwd: app.cwd });
}
