import { randomUUID } from 'node:crypto';
import {
  existsSync,
  linkSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { systemCodeOf } from '../errors.js';
import { isObject } from '../json.js';

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

/** Writes that many bytes into a folder and removes them again; throws where that can't be done. */
export function probeWrite(folder: string, bytes = 0): void {
  const probe = join(folder, `.probe-${process.pid}`);
  try {
    writeFileSync(probe, Buffer.alloc(bytes));
  } finally {
    if (existsSync(probe)) rmSync(probe, { force: true });
  }
}

/** Reads a JSON object; undefined when there is no such file, or it holds something else. */
export function readJson(path: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const json: unknown = JSON.parse(readFileSync(path, 'utf8'));
    return isObject(json) ? json : undefined;
  } catch {
    return undefined;
  }
}

/** Reads a text; undefined where it can't be read. */
export function readText(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}

/** What a folder holds; nothing where it can't be read. */
export function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

/** Not of the pid: threads share it, and two containers on one volume may have the same. */
function draftOf(path: string): string {
  return `${path}.${randomUUID()}.draft`;
}
