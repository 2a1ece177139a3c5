import { appConfig } from '../config/app-config.js';
import { openGenerations } from '../envoy/generations.js';
import { findRunDir } from '../envoy/run-dir.js';
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
