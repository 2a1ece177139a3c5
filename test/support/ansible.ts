import { spawn } from 'node:child_process';
import { join, resolve } from 'node:path';
import { makeFolder } from './folder.js';

const PLAYBOOKS = resolve(import.meta.dirname, '../../deploy/ansible');
/** A roll over three hosts takes a minute. */
const LIMIT_MS = 300_000;

/** How a run of a playbook went. */
export interface PlaybookRun {
  code: number | null;
  output: string;
  /** What it says of each host at the end. */
  recap: Readonly<Record<string, { changed: number; failed: number }>>;
  /** How long each batch of hosts took. */
  batchesMs: number[];
}

/**
 * Runs ansible-playbook, `ANSIBLE_PLAYBOOK` or from the PATH, in deploy/ansible; resolves whatever it ends with.
 *
 * @param within words that make it run on a host of the test's own
 */
export async function runPlaybook(
  args: readonly string[],
  within: readonly string[] = [],
): Promise<PlaybookRun> {
  const program = process.env['ANSIBLE_PLAYBOOK'] || 'ansible-playbook';
  const [command = '', ...words] = [...within, program, ...args];
  const folder = makeFolder();
  const startsMs: number[] = [];
  let output = '';
  try {
    const code = await new Promise<number | null>((done, fail) => {
      const child = spawn(command, words, {
        cwd: PLAYBOOKS,
        env: {
          ...process.env,
          ANSIBLE_HOME: join(folder.path, 'ansible'),
          // Connections are shared by address, and other networks have hosts of the same one.
          ANSIBLE_SSH_CONTROL_PATH_DIR: join(folder.path, 'cp'),
        },
        stdio: ['ignore', 'pipe', 'pipe'],
        timeout: LIMIT_MS,
      });
      for (const stream of [child.stdout, child.stderr]) {
        stream.setEncoding('utf8').on('data', (text: string) => {
          output += text;
          const begun = [...output.matchAll(/^PLAY \[|^PLAY RECAP/gm)].length;
          while (startsMs.length < begun) startsMs.push(performance.now());
        });
      }
      child.once('error', fail);
      child.once('close', done);
    });
    return { code, output, recap: readRecap(output), batchesMs: differences(startsMs) };
  } finally {
    folder.remove();
  }
}

function readRecap(output: string): PlaybookRun['recap'] {
  const lines = output
    .split('PLAY RECAP')[1]
    ?.matchAll(/^(\S+) +: ok=.* changed=(\d+) .* failed=(\d+)/gm);
  return Object.fromEntries(
    [...(lines ?? [])].map(([, host, changed, failed]) => [
      host,
      { changed: Number(changed), failed: Number(failed) },
    ]),
  );
}

function differences(times: readonly number[]): number[] {
  return times.slice(1).map((time, index) => time - (times[index] ?? time));
}
