import { mkdirSync, realpathSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type Generation, generationFolders, openGenerations } from './generations.js';
import { commandLines, sameProcess } from './process-identity.js';
import { isOwnFolder } from './run-dir.js';

/** As the runner's own argument names it; the path is JSON. */
const ADMIN_SOCKET = /"path":"((?:[^"\\]|\\.)+)\/generations\/(\d{1,6})\/admin\.sock"/;

/**
 * Generations that live in other run directories of this user than `runDir`, found by the command lines of
 * their Envoys: no one who looks there alone would know of them.
 */
export function generationsElsewhere(runDir: string): Generation[] {
  const known = openGenerations(runDir).live();
  return commandLines().flatMap(({ pid, text }) => {
    const [, path, number] = ADMIN_SOCKET.exec(text) ?? [];
    if (path === undefined) return [];
    const folder: string = JSON.parse(`"${path}"`);
    if (!isOwnFolder(folder) || isSameFolder(folder, runDir)) return [];
    return openGenerations(folder)
      .live()
      .filter((found) => found.number === Number(number) && found.envoy.pid === pid)
      .filter(({ envoy }) => !known.some((one) => sameProcess(one.envoy, envoy)));
  });
}

/**
 * Makes a generation of another run directory count as an earlier one of this: every process that looks here drains it,
 * shows it, hands over from it and ends it like any other.
 */
export function linkGeneration({ directory }: Generation, runDir: string): void {
  const latest = generationFolders(runDir).at(-1)?.number ?? 0;
  const root = join(runDir, 'generations');
  mkdirSync(root, { recursive: true, mode: 0o700 });
  symlinkSync(realpathSync(directory), join(root, String(latest + 1)));
}

/** Those of a run directory's live generations that are linked from others. */
export function startedElsewhere(runDir: string): Generation[] {
  return openGenerations(runDir)
    .live()
    .filter((generation) => !isSameFolder(runDirOf(generation), runDir));
}

/** The run directory that a generation was started in. */
export function runDirOf({ directory }: Generation): string {
  return dirname(dirname(realpathSync(directory)));
}

function isSameFolder(a: string, b: string): boolean {
  try {
    return realpathSync(a) === realpathSync(b);
  } catch {
    return false;
  }
}
