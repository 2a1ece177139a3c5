import { homedir } from 'node:os';
import { join, resolve } from 'node:path';

import type { Supervisor } from '../host/supervisor.js';
import { PACKAGE_ROOT } from '../package-root.js';

/** The folder of the pm2 that a shell or an app means. */
export function pm2Home(env: NodeJS.ProcessEnv = process.env): string {
  return resolve(env['PM2_HOME'] || resolve(homedir(), '.pm2'));
}

/** The folder of the pm2 that `npm start` runs, in a checkout of pm2-envoy. */
export function quickStartHome(): string {
  return join(PACKAGE_ROOT, '.pm2');
}

/** The one that this process belongs to. */
export function ownSupervisor(env: NodeJS.ProcessEnv = process.env): Supervisor {
  const isApp = env['pm_id'] !== undefined;
  return {
    home: isApp ? pm2Home(env) : 'none',
    app: isApp ? (env['name'] ?? 'none') : 'none',
    pmId: env['pm_id'],
    // process.cwd() is what a link pointed to when the process was started.
    folder: (isApp && env['pm_cwd']) || process.cwd(),
  };
}
