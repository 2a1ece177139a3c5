import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { systemCodeOf } from './errors.js';

/** Writes JSON so that a reader sees the old content or the new, never a part. */
export function writeJson(path: string, value: unknown): void {
  const draft = draftOf(path);
  try {
    writeFileSync(draft, JSON.stringify(value), { mode: 0o600 });
    renameSync(draft, path);
  } finally {
    rmSync(draft, { force: true });
  }
}

/** The same, only if there is no such file yet; returns whether this call made it. */
export function createJson(path: string, value: unknown): boolean {
  const draft = draftOf(path);
  try {
    writeFileSync(draft, JSON.stringify(value), { mode: 0o600 });
    linkSync(draft, path);
    return true;
  } catch (error) {
    if (systemCodeOf(error) === 'EEXIST') return false;
    throw error;
  } finally {
    rmSync(draft, { force: true });
  }
}

/** Reads JSON; undefined when there is no such file, or it does not hold JSON. */
export function readJson(path: string): unknown {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch {
    return undefined;
  }
}

let drafts = 0;

function draftOf(path: string): string {
  drafts += 1;
  return `${path}.${process.pid}.${drafts}.draft`;
}
