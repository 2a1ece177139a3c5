import { spawn } from 'node:child_process';
import type { Readable } from 'node:stream';
import { until } from '../../clock.js';
import type { EnvoyExit } from '../../envoy/process.js';
import { signalGroup } from '../../host/process-group.js';

/** A program to run. */
export interface Program {
  file: string;
  args: readonly string[];
  env: NodeJS.ProcessEnv;
  /** Told of each line that it prints. */
  onLine(line: string, stream: 'stdout' | 'stderr'): void;
}

/** From SIGTERM to SIGKILL. */
const GRACE_MS = 2_000;
/** How long output may come after the end: a program may leave others behind that keep the pipe open. */
const LATE_OUTPUT_MS = 200;
/** What is longer is cut. */
const LONGEST_LINE = 1_000;

const groups = new Set<number>();
let isWatched = false;

/**
 * Runs a program in a process group of its own and resolves to how it ended.
 *
 * When `signal` aborts, the whole group is ended: SIGTERM, and SIGKILL 2 s later. When this process ends
 * before that, SIGKILL immediately: no one would be left to keep the time.
 *
 * @throws Error (Node's own) when the program can't be started
 */
export async function runProgram(program: Program, signal: AbortSignal): Promise<EnvoyExit> {
  const { file, args, env, onLine } = program;
  const child = spawn(file, args, { detached: true, stdio: ['ignore', 'pipe', 'pipe'], env });
  const exited = new Promise<EnvoyExit>((resolve, reject) => {
    child.once('exit', (code, killedBy) => resolve({ code, signal: killedBy }));
    child.once('error', reject);
  });
  const group = child.pid;
  if (group === undefined) return exited;
  watch(group);
  const endIt = (): void => void endGroup(group);
  signal.addEventListener('abort', endIt, { once: true });
  let open = 2;
  for (const name of ['stdout', 'stderr'] as const) {
    void readLines(child[name], (line) => onLine(line, name)).then(() => {
      open -= 1;
    });
  }
  try {
    const exit = await exited;
    await until(() => open === 0 || undefined, { everyMs: 5, limitMs: LATE_OUTPUT_MS });
    return exit;
  } finally {
    signal.removeEventListener('abort', endIt);
    for (const stream of [child.stdout, child.stderr]) stream.destroy();
    if (!signal.aborted) groups.delete(group);
  }
}

function watch(group: number): void {
  groups.add(group);
  if (isWatched) return;
  isWatched = true;
  const endAll = (): void => {
    for (const each of groups) signalGroup(each, 'SIGKILL');
  };
  process.once('exit', endAll);
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    const onSignal = (): void => {
      // Who else listens decides what it means. No one: it ends this process, without the event 'exit'.
      if (process.listenerCount(signal) > 1) return;
      endAll();
      process.off(signal, onSignal);
      process.kill(process.pid, signal);
    };
    process.on(signal, onSignal);
  }
}

async function endGroup(group: number): Promise<void> {
  signalGroup(group, 'SIGTERM');
  const isGone = (): true | undefined => (signalGroup(group, 0) ? undefined : true);
  const gone = await until(isGone, { everyMs: 20, limitMs: GRACE_MS });
  if (!gone) signalGroup(group, 'SIGKILL');
  groups.delete(group);
}

/** Resolves when there is no more. */
function readLines(stream: Readable, onLine: (line: string) => void): Promise<void> {
  let rest = '';
  stream.setEncoding('utf8');
  stream.on('data', (chunk: string) => {
    const lines = (rest + chunk).split('\n');
    rest = (lines.pop() ?? '').slice(0, LONGEST_LINE);
    for (const line of lines) tell(line);
  });
  stream.on('error', () => stream.destroy());
  return new Promise((resolve) => {
    stream.on('close', () => {
      tell(rest);
      resolve();
    });
  });

  function tell(line: string): void {
    const clean = line.replaceAll(/\p{Cc}+/gu, ' ').trim();
    if (clean !== '') onLine(clean.slice(0, LONGEST_LINE));
  }
}
