import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { TestPm2 } from './pm2.js';

/** A process that a test has started. */
export interface Started {
  child: ReturnType<typeof spawn>;
  /** stdout and stderr so far. */
  output(): string;
  /** Resolves to the exit code. */
  ended: Promise<number | null>;
}

/** Starts a process with the environment of a pm2. */
export function startProcess(
  { env, folder }: TestPm2,
  file: string,
  args: readonly string[],
  where: { env: NodeJS.ProcessEnv; cwd: string } = { env, cwd: folder },
): Started {
  const child = spawn(file, args, { ...where, stdio: 'pipe' });
  let text = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      text += chunk;
    });
  }
  const ended = once(child, 'close', { signal: AbortSignal.timeout(60_000) });
  return {
    child,
    output: () => text,
    ended: ended.then(([code]) => (typeof code === 'number' ? code : null)),
  };
}
