// Ends what tests have left behind, also those that were ended at their time limit. Linux only.
import { readdirSync, readFileSync } from 'node:fs';

const MOST_ROUNDS = 20;

/**
 * Ends every process that was given `folder` as its TMPDIR, and so was started by a test, or by what a test
 * has started. Gives their command lines.
 */
export function endLeftovers(folder) {
  const ended = [];
  // One may have started another while we looked.
  for (let round = 0; round < MOST_ROUNDS; round += 1) {
    const found = endOnce(folder);
    if (found.length === 0) break;
    ended.push(...found);
  }
  return [...new Set(ended)];
}

function endOnce(folder) {
  return processes()
    .filter((pid) => variablesOf(pid).includes(`TMPDIR=${folder}`))
    .flatMap((pid) => {
      const command = commandOf(pid);
      try {
        process.kill(pid, 'SIGKILL');
        return [`${pid} ${command}`];
      } catch {
        return [];
      }
    });
}

function processes() {
  try {
    return readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .map(Number);
  } catch {
    return [];
  }
}

function variablesOf(pid) {
  return read(`/proc/${pid}/environ`);
}

function commandOf(pid) {
  return read(`/proc/${pid}/cmdline`).join(' ').trim().slice(0, 120);
}

/** Another user's can't be read, and one that has ended is not there. */
function read(path) {
  try {
    return readFileSync(path, 'utf8').split('\0');
  } catch {
    return [];
  }
}
