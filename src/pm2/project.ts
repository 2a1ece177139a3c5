import { realpathSync } from 'node:fs';
import { Pm2EnvoyError } from '../errors.js';
import type { Generation } from '../host/generations.js';

/**
 * Tells an app the folder of the ecosystem file that its settings are from. Without `PM2_ENVOY_` at its start: pm2 keeps
 * it when an earlier version is put back, which refuses such a variable that it does not know.
 */
export const PROJECT_VARIABLE = 'PM2ENVOY_PROJECT';

/**
 * pm2 knows an app by its name: where two projects use the same, starting the second one restarts the first
 * one's app, in its own folder, with the second one's settings. A new release in another folder does so too,
 * on purpose; but that one keeps the run directory.
 *
 * @param elsewhere generations of this pm2 and folder in another run directory
 * @returns what is wrong; undefined: nothing
 */
export function namesMeet(
  elsewhere: readonly Generation[],
  env: NodeJS.ProcessEnv = process.env,
): Pm2EnvoyError | undefined {
  const project = env[PROJECT_VARIABLE];
  const [first] = elsewhere;
  if (!project || !first || real(project) === real(process.cwd())) return undefined;
  const name = env['name'] ?? 'envoy';
  return new Pm2EnvoyError(
    'config-invalid',
    `pm2 has restarted the app ${name} of ${process.cwd()} with the settings of ${project}: two projects under one pm2 need different app names (or separate PM2_HOMEs); start the first one again from its own directory`,
  );
}

function real(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}
