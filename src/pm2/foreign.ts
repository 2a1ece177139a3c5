import { realpathSync } from 'node:fs';
import { openGenerations } from '../host/generations.js';
import { findRunDir } from '../host/run-dir.js';
import { describeSupervisor, type Supervisor } from '../host/supervisor.js';
import { shellWord } from '../text.js';
import { openPm2Daemon } from './daemon.js';
import { isOf, runDirOf } from './find-app.js';
import { pm2Home, quickStartHome } from './supervisor.js';

/** An Envoy of another pm2, which this shell finds where it looks for its own. */
export interface ForeignEnvoy {
  message: string;
  remedy: string;
}

/**
 * Finds out whether the Envoy of a run directory belongs to another pm2 than this shell's: the default run directory is
 * the same for every pm2 of a user. A shell that neither names a pm2 nor has one that runs Envoy means the Envoy that
 * there is.
 *
 * @returns undefined: it does not, or it is not known. Never rejects
 */
export async function findForeign(
  { runDir: configured }: { runDir: string | undefined },
  env: NodeJS.ProcessEnv = process.env,
): Promise<ForeignEnvoy | undefined> {
  const runDir = findRunDir(configured);
  const supervisor = openGenerations(runDir).newest()?.supervisor;
  const home = pm2Home(env);
  if (!supervisor || supervisor.home === 'none') return undefined;
  if ([home, quickStartHome()].some((own) => real(own) === real(supervisor.home))) return undefined;
  const all = await openPm2Daemon(home)
    .processes()
    .catch(() => []);
  const own = all.find((app) => isOf(app, 'runner'));
  if (!own && !env['PM2_HOME']) return undefined;
  const ownRunDir = own && runDirOf(own);
  return {
    message: describe(runDir, supervisor, home),
    remedy:
      own && ownRunDir !== undefined && ownRunDir !== runDir
        ? `for the app ${own.name} of this pm2, pass \`--app ${own.name}\`, or set PM2_ENVOY_RUN_DIR=${shellWord(ownRunDir)}; for the other one, set PM2_HOME=${shellWord(supervisor.home)}`
        : `give the Envoy of this pm2 a run-dir of its own (in its settings, and as PM2_ENVOY_RUN_DIR here), and start it; for the other one, set PM2_HOME=${shellWord(supervisor.home)}`,
  };
}

function describe(runDir: string, supervisor: Supervisor, home: string): string {
  return `the Envoy in the run directory ${runDir} belongs to another pm2 (${describeSupervisor(supervisor)}); the pm2 of this shell is ${home}`;
}

function real(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}
