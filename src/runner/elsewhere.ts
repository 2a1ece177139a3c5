import { messageOf } from '../errors.js';
import {
  generationsElsewhere,
  linkGeneration,
  runDirOf,
  startedElsewhere,
} from '../host/elsewhere.js';
import { type Generation, openGenerations } from '../host/generations.js';
import { findRunDir } from '../host/run-dir.js';
import { sameSupervisor } from '../host/supervisor.js';
import type { Log } from '../log.js';
import { appConfig } from '../pm2/app-config.js';
import type { Pm2Process } from '../pm2/daemon.js';
import { ownSupervisor } from '../pm2/supervisor.js';
import { shellWord } from '../text.js';

/**
 * Counts what this app has left in other run directories as earlier generations of this one: `run-dir` may
 * have been changed, and no one else would drain or end them.
 *
 * @returns all that are linked from elsewhere now
 */
export function bringTogether(runDir: string, log: Log): Generation[] {
  const own = ownSupervisor();
  // Without pm2 two runners of one folder have nothing to do with each other.
  if (own.home === 'none') return [];
  const found = generationsElsewhere(runDir).filter(({ supervisor }) =>
    sameSupervisor(supervisor, own),
  );
  for (const generation of found) {
    const from = `generation ${generation.number} of ${runDirOf(generation)}`;
    try {
      linkGeneration(generation, runDir);
      log.warn(`${from} of this app serves too: taking over from it`);
    } catch (error) {
      log.error(
        `${from} serves too, but it can't be taken over (${messageOf(error)}): drain it with \`pm2-envoy shutdown --run-dir ${shellWord(runDirOf(generation))}\`, and end pid ${generation.envoy.pid}`,
      );
    }
  }
  return startedElsewhere(runDir);
}

/**
 * Whether the instance that replaces this one has an Envoy that serves, in another run directory: a
 * reload may have changed `run-dir`.
 */
export function servesElsewhere(replacement: Pm2Process): boolean {
  try {
    const { config } = appConfig(replacement);
    return openGenerations(findRunDir(config.runDir))
      .live()
      .some(({ ready, runner }) => ready && runner.pid === replacement.pid);
  } catch {
    return false;
  }
}
