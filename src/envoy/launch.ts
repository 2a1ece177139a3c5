import type { GenerationLaunch } from '../host/generations.js';
import { findEnvoy } from './binary.js';
import { validateBootstrap } from './bootstrap.js';

/** What of the configuration says how Envoy is started. */
export interface LaunchSettings {
  readonly envoyBin: string | undefined;
  readonly envoyConfig: string;
  readonly envoyArgs: readonly string[];
  readonly envoyDrainTimeMs: number;
}

/**
 * Finds the binary and has it check the bootstrap; nothing is started.
 *
 * @param app environment and folder of the app, when another process asks
 */
export async function checkLaunch(
  config: LaunchSettings,
  runDir: string,
  app: { env?: NodeJS.ProcessEnv; cwd?: string } = {},
): Promise<string> {
  const { path } = findEnvoy(config.envoyBin, app.env);
  const launch = { bootstrap: config.envoyConfig, args: config.envoyArgs, cwd: app.cwd };
  await validateBootstrap(path, launch, runDir);
  return path;
}

/** What a generation of this configuration is started with. */
export function launchOf(binary: string, config: LaunchSettings): GenerationLaunch {
  const { envoyConfig: bootstrap, envoyArgs: args, envoyDrainTimeMs: drainTimeMs } = config;
  return { binary, bootstrap, args, drainTimeMs };
}
