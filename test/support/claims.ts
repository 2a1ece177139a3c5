import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { openLedger } from '../../src/drain/record.js';
import { identify, type ProcessIdentity } from '../../src/host/process-identity.js';
import { silentLog } from '../../src/log.js';
import { makeRecord } from '../unit/fakes.js';
import { makeFolder } from './folder.js';

/** Memory that the claimants share. */
export interface Claims {
  /** The number of the round, and how many take part in it. */
  round: SharedArrayBuffer;
  /** How many are done with it. */
  done: SharedArrayBuffer;
  /** What each has found; see {@link CLAIM}. */
  found: SharedArrayBuffer;
}

/** What is where in what one claimant has found. */
export const CLAIM = { number: 0, term: 1, leads: 2, decision: 3, length: 4 } as const;

/** What one round came to. */
export interface Round {
  number: number;
  claimants: number;
  /** Whether they found a record whose leader is dead. */
  isTakeover: boolean;
  leaders: number;
  /** Different answers to which drain it is, and to what was decided. */
  records: number;
  decisions: number;
}

const MOST = 8;
const PATIENCE_MS = 60_000;

/** Has two to eight claimants claim one drain at the same instant, again and again. */
export async function claimRounds(rounds: number): Promise<Round[]> {
  const folder = makeFolder();
  const claims: Claims = {
    round: new SharedArrayBuffer(8),
    done: new SharedArrayBuffer(4),
    found: new SharedArrayBuffer(4 * MOST * CLAIM.length),
  };
  const [round, done, found] = [claims.round, claims.done, claims.found].map(
    (buffer) => new Int32Array(buffer),
  );
  if (!round || !done || !found) throw new Error('there is no memory');
  const children: ChildProcess[] = [];
  const someone = async (): Promise<ProcessIdentity> => {
    const child = spawn('sleep', ['600'], { stdio: 'ignore' });
    children.push(child);
    await once(child, 'spawn');
    return identify(child.pid ?? 0) ?? { pid: 0, startTime: '' };
  };
  const dead = await someone();
  children[0]?.kill('SIGKILL');
  const seen: Round[] = [];
  try {
    const workers = await Promise.all(
      Array.from({ length: MOST }, async (_, index) => {
        const record = makeRecord(1_000, { leader: await someone() });
        const workerData = { index, record, base: folder.path, claims, at: CLAIM };
        const file = new URL('./claimant.js', import.meta.url);
        const worker = new Worker(file, { workerData, execArgv: [] });
        worker.on('error', (error) => {
          throw error;
        });
        await once(worker, 'online');
        return worker;
      }),
    );
    for (let number = 1; number <= rounds; number += 1) {
      const claimants = 2 + (number % (MOST - 1));
      const isTakeover = number % 2 === 0;
      const base = join(folder.path, String(number), 'host');
      mkdirSync(join(base, '..'));
      if (isTakeover) {
        const first = makeRecord(1_000, { leader: dead });
        openLedger({ base, log: silentLog, self: dead }).claim(first, 1_000);
      }
      Atomics.store(done, 0, 0);
      Atomics.store(round, 1, claimants);
      Atomics.store(round, 0, number);
      Atomics.notify(round, 0);
      for (let ready = 0; ready < MOST; ready = Atomics.load(done, 0)) {
        if (Atomics.wait(done, 0, ready, PATIENCE_MS) === 'timed-out') throw new Error('stuck');
      }
      seen.push(summary(found, { number, claimants, isTakeover }));
      rmSync(join(base, '..'), { recursive: true });
    }
    await Promise.all(workers.map((worker) => worker.terminate()));
  } finally {
    for (const child of children) child.kill('SIGKILL');
    folder.remove();
  }
  return seen;
}

function summary(
  found: Int32Array,
  round: Pick<Round, 'number' | 'claimants' | 'isTakeover'>,
): Round {
  const all = Array.from({ length: round.claimants }, (_, index) =>
    found.slice(index * CLAIM.length, (index + 1) * CLAIM.length),
  );
  const different = (key: number): number => new Set(all.map((one) => one[key])).size;
  return {
    ...round,
    leaders: all.filter((one) => one[CLAIM.leads] === 1).length,
    records: different(CLAIM.number) * different(CLAIM.term),
    decisions: different(CLAIM.decision),
  };
}
