import { spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Pm2EnvoyError, systemCodeOf } from '../errors.js';
import { outOfMemoryKills, outOfMemorySince, startEndedFirst } from '../host/memory.js';
import { boundGroup } from '../host/process-group.js';
import { type EnvoyLaunch, validateArguments } from './arguments.js';
import { isEnvoy, isStarved, notAnEnvoy } from './bootstrap.js';
import { createFaultFinder } from './fault.js';
import { childEnvironment } from './process.js';

/** What Envoy says of a bootstrap; `unchecked`: nothing, for a reason that is not the bootstrap's fault. */
export type BootstrapCheck = { kind: 'valid' } | { kind: 'unchecked'; reason: string };

const VALIDATE_LIMIT_MS = 30_000;
const STOPPED = 'it was stopped';
/** A shell that runs Envoy as its child reports a death by signal as 128 and the signal's number. */
const LAST_EXIT_CODE = 128;

/**
 * Has Envoy itself check a bootstrap file (`--mode validate`). That takes as much memory as an Envoy: when memory
 * runs out, the kernel is to end the check, and not what serves.
 *
 * Only Envoy's own word is a refusal. A check that is too slow, or that a signal ends, says nothing of the bootstrap.
 *
 * Its output goes to a file in `scratchDir`: an access log on /dev/stdout is opened even by a
 * validation, and that fails on a socket, which Node's pipes are.
 *
 * @param launch `cwd`: where relative paths in the bootstrap start; this process's folder if left out
 * @param stop ends the check, whose answer is not needed any more
 * @throws Pm2EnvoyError `bootstrap-invalid` with Envoy's reason, or `envoy-not-found` when the
 *   binary is no Envoy that runs here
 */
export async function validateBootstrap(
  binary: string,
  launch: Pick<EnvoyLaunch, 'bootstrap' | 'args'> & { cwd?: string | undefined },
  scratchDir: string,
  { limitMs = VALIDATE_LIMIT_MS, stop }: { limitMs?: number; stop?: AbortSignal | undefined } = {},
): Promise<BootstrapCheck> {
  const file = join(scratchDir, `validate-${process.pid}.log`);
  const output = openSync(file, 'w', 0o600);
  const killsBefore = outOfMemoryKills();
  let bound: ReturnType<typeof boundGroup> | undefined;
  try {
    if (stop?.aborted) return unchecked(STOPPED);
    const child = startEndedFirst(() =>
      spawn(binary, validateArguments(launch), {
        detached: true,
        stdio: ['ignore', output, output],
        env: childEnvironment(),
        cwd: launch.cwd,
      }),
    );
    bound = boundGroup(child, { limitMs, stop });
    const { code, signal, error } = await new Promise<Ended>((resolve) => {
      child.once('exit', (code, signal) => resolve({ code, signal }));
      child.once('error', (error) => resolve({ code: null, signal: null, error }));
    });
    if (isStarved(error)) return unchecked(`it could not be started (${systemCodeOf(error)})`);
    if (error) throw notAnEnvoy(binary, error);
    if (code === 0) return { kind: 'valid' };
    if (stop?.aborted) return unchecked(STOPPED);
    if (bound.isLate()) return unchecked(`it did not end within ${limitMs / 1_000} s`);
    if (code === null || code > LAST_EXIT_CODE) {
      const by = signal ?? `signal ${(code ?? 0) - LAST_EXIT_CODE}`;
      return unchecked(`it was ended by ${by}${outOfMemorySince(killsBefore)}`);
    }
    if (!(await isEnvoy(binary))) throw notAnEnvoy(binary);
    throw new Pm2EnvoyError(
      'bootstrap-invalid',
      `Envoy refuses the bootstrap file ${launch.bootstrap} (envoy-config): ${reasonOf(readFileSync(file, 'utf8'))}`,
    );
  } finally {
    bound?.release();
    closeSync(output);
    rmSync(file, { force: true });
  }
}

interface Ended {
  code: number | null;
  signal: NodeJS.Signals | null;
  error?: Error;
}

function unchecked(reason: string): BootstrapCheck {
  return { kind: 'unchecked', reason: `Envoy could not check the bootstrap: ${reason}` };
}

function reasonOf(output: string): string {
  const finder = createFaultFinder();
  finder.see(output);
  // The file is named already.
  const reason = finder.found()?.replace(/^error initializing configuration '[^']*': /, '');
  return reason ?? 'it gave no reason';
}
