import { homedir } from 'node:os';
import { resolve } from 'node:path';

/** The pm2, the app and the folder that a runner belongs to: the same for its next runners. */
export interface Supervisor {
  /** PM2_HOME; `none` for a runner that pm2 has not started. */
  home: string;
  /** Name of the pm2 app. */
  app: string;
  folder: string;
}

/** The folder of the pm2 that a shell or an app means. */
export function pm2Home(env: NodeJS.ProcessEnv = process.env): string {
  return resolve(env['PM2_HOME'] || resolve(homedir(), '.pm2'));
}

/** The one that this process belongs to. */
export function ownSupervisor(env: NodeJS.ProcessEnv = process.env): Supervisor {
  const isApp = env['pm_id'] !== undefined;
  return {
    home: isApp ? pm2Home(env) : 'none',
    app: isApp ? (env['name'] ?? 'none') : 'none',
    folder: process.cwd(),
  };
}

/** Whether both are the same. */
export function sameSupervisor(a: Supervisor | undefined, b: Supervisor | undefined): boolean {
  return a?.home === b?.home && a?.app === b?.app && a?.folder === b?.folder;
}

/** In words, for the log. */
export function describeSupervisor({ home, app, folder }: Supervisor): string {
  return `PM2_HOME ${home}, app ${app}, folder ${folder}`;
}
