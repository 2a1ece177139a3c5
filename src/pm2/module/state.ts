import { createHash } from 'node:crypto';
import { chmodSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { MODULE } from '../../config/module-settings.js';
import { readJson, writeJson } from '../../host/files.js';
import { pm2Home } from '../supervisor.js';

/** What the module runs, or ran last, with settings that passed. */
export interface Accepted {
  /** Variables that the app `envoy` is given. */
  env: Record<string, string>;
}

/** Where the module keeps what has to outlive its own folder, which `pm2 install` and `pm2 uninstall` delete. */
export interface ModuleState {
  /** `$PM2_HOME/pm2-envoy`: the working directory of the app `envoy`, and of the module. */
  folder: string;
  /** The ecosystem file of the app `envoy`. */
  ecosystem: string;
  accepted(): Accepted | undefined;
  accept(accepted: Accepted): void;
}

/** Opens the state of the module of one pm2; nothing is made before something is written. */
export function openModuleState(home: string = pm2Home()): ModuleState {
  const folder = join(home, MODULE);
  const file = join(folder, 'accepted.json');
  return {
    folder,
    ecosystem: join(folder, 'envoy.json'),
    accepted: () => {
      const found = readJson(file) as Partial<Accepted> | undefined;
      return typeof found?.env === 'object' ? { env: found.env } : undefined;
    },
    accept: (accepted) => writeJson(file, accepted),
  };
}

/** Makes the folder: tokens lie in it, so it is this user's alone. */
export function makeStateFolder({ folder }: ModuleState): void {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  chmodSync(folder, 0o700);
}

/** The environment of a shell with what the module of its pm2 has been set to, where that runs Envoy. */
export function withModuleSettings(env: NodeJS.ProcessEnv = process.env): NodeJS.ProcessEnv {
  if (env[MODULE] !== undefined) return env;
  const settings = openModuleState(pm2Home(env)).accepted()?.env[MODULE];
  return settings === undefined ? env : { ...env, [MODULE]: settings };
}

/** A short text that differs where `value` does. */
export function fingerprintOf(value: unknown): string {
  return createHash('sha256').update(JSON.stringify(value)).digest('hex').slice(0, 16);
}
