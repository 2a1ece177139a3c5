import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { isPm2EnvoyError, messageOf } from '../errors.js';
import { readJson, writeJson } from './files.js';

/** Why the latest Envoy did not come up. */
export interface FailedStart {
  /** ISO 8601, of the latest attempt. */
  at: string;
  /** The same of the first attempt since an Envoy served. */
  since: string;
  /** Attempts that have failed since an Envoy served. */
  count: number;
  /** One line or several, with Envoy's own last error. */
  reason: string;
  /** Which error it was, if it is one of pm2-envoy's own (docs/errors.md). */
  code?: string;
}

/**
 * Records that this host's runner could not start an Envoy, to explain why there is none. A run
 * directory that can't be written costs that only.
 */
export function noteFailedStart(runDir: string, error: unknown): void {
  const at = new Date().toISOString();
  const before = readFailedStart(runDir);
  const failed: FailedStart = {
    at,
    since: before?.since ?? at,
    count: (before?.count ?? 0) + 1,
    reason: messageOf(error),
    ...(isPm2EnvoyError(error) ? { code: error.code } : {}),
  };
  try {
    writeJson(fileIn(runDir), failed);
  } catch {
    // The log says it too.
  }
}

/** The latest failed start; undefined: an Envoy has served since, or none was started yet. */
export function readFailedStart(runDir: string): FailedStart | undefined {
  const { at, since, count, reason, code } = readJson(fileIn(runDir)) ?? {};
  const isWhole =
    typeof at === 'string' &&
    typeof since === 'string' &&
    typeof count === 'number' &&
    typeof reason === 'string';
  if (!isWhole) return undefined;
  return { at, since, count, reason, ...(typeof code === 'string' ? { code } : {}) };
}

/** An Envoy serves: earlier failures are over. */
export function forgetFailedStart(runDir: string): void {
  try {
    rmSync(fileIn(runDir), { force: true });
  } catch {
    // What is left is not shown while an Envoy serves.
  }
}

/** `3 starts in a row have failed since 12:00:00, the latest: …`. */
export function describeFailedStart({ count, since, reason }: FailedStart): string {
  const what =
    count === 1
      ? `its start failed at ${since}`
      : `${count} starts in a row have failed since ${since}`;
  return `${what}: ${reason}`;
}

function fileIn(runDir: string): string {
  return join(runDir, 'failed-start.json');
}
