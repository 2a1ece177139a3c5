import { openGenerations } from '../host/generations.js';
import { findRunDir } from '../host/run-dir.js';
import { appConfig } from '../pm2/app-config.js';
import type { Pm2Process } from '../pm2/daemon.js';

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
