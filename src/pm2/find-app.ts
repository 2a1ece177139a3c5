import type { LoadedConfig } from '../config/load.js';
import { Pm2EnvoyError } from '../errors.js';
import { openGenerations } from '../host/generations.js';
import { findRunDir } from '../host/run-dir.js';
import { openPm2Daemon, type Pm2Daemon, type Pm2Process } from './daemon.js';
import { pm2Home } from './supervisor.js';

/** The pm2 app `envoy` of this host. */
export interface FoundApp {
  /** PM2_HOME of its pm2. */
  home: string;
  daemon: Pm2Daemon;
  process: Pm2Process;
  /** Everything that this pm2 runs. */
  all: readonly Pm2Process[];
  /** The run directory that was looked in. */
  runDir: string;
}

/**
 * Finds the pm2 app that runs Envoy: the one that the generation in service belongs to, else the app
 * `envoy` of the shell's PM2_HOME.
 *
 * @throws Pm2EnvoyError `pm2-unreachable` when there is no such pm2 or app
 */
export async function findApp({ config }: LoadedConfig): Promise<FoundApp> {
  const runDir = findRunDir(config.runDir);
  const supervisor = openGenerations(runDir).newest()?.supervisor;
  const isSupervised = supervisor !== undefined && supervisor.home !== 'none';
  const home = isSupervised ? supervisor.home : pm2Home();
  const name = isSupervised ? supervisor.app : 'envoy';
  const daemon = openPm2Daemon(home);
  const all = await daemon.processes();
  const found = all.find((app) => app.name === name);
  if (!found) {
    throw new Pm2EnvoyError(
      'pm2-unreachable',
      `pm2 in ${home} has no app ${name}: start it with \`pm2 start ecosystem.config.js\`, or set PM2_HOME and run-dir as that pm2 has them`,
    );
  }
  return { home, daemon, process: found, all, runDir };
}
