import { readFlags } from '../config/flags.js';
import { type ConfigSources, type LoadedConfig, loadConfig } from '../config/load.js';
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
  return loadConfig({ ...appSources(app), env: { ...app.env, ...env } });
}

/** What a pm2 app reads its configuration from. */
export function appSources({
  args,
  env,
  cwd,
}: Pick<Pm2Process, 'env' | 'cwd' | 'args'>): ConfigSources {
  return { ...readFlags(args), env, cwd };
}

/** The same, with what a call of the command line was given over it. */
export function withCall(
  sources: ConfigSources,
  { flags, configFile }: Pick<ConfigSources, 'flags' | 'configFile'>,
): ConfigSources {
  return {
    ...sources,
    flags: { ...sources.flags, ...flags },
    configFile: configFile ?? sources.configFile,
  };
}
