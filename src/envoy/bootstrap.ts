import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { Pm2EnvoyError, systemCodeOf } from '../errors.js';

const run = promisify(execFile);
const VERSION_LIMIT_MS = 30_000;

/** The version that a binary names (`envoy  version: COMMIT/1.40.0/…`); undefined: it is no Envoy, or can't say. */
export async function versionOf(binary: string): Promise<string | undefined> {
  return (await askVersion(binary)).version;
}

/** Whether a binary says that it is an Envoy. One that could not say, on a machine that is starved, may be one. */
export async function isEnvoy(binary: string): Promise<boolean> {
  const { version, couldSay } = await askVersion(binary);
  return version !== undefined || !couldSay;
}

async function askVersion(
  binary: string,
): Promise<{ version?: string | undefined; couldSay: boolean }> {
  try {
    const { stdout } = await run(binary, ['--version'], { timeout: VERSION_LIMIT_MS });
    return { version: /version: \w+\/(\d+\.\d+\.\d+[^/]*)/.exec(stdout)?.[1], couldSay: true };
  } catch (error) {
    const isEnded = error instanceof Error && 'signal' in error && error.signal !== null;
    return { couldSay: !isEnded && !isStarved(error) };
  }
}

/** Whether a process could not be started for lack of something that may be there in a moment. */
export function isStarved(error: unknown): boolean {
  return STARVED.includes(systemCodeOf(error) ?? '');
}

/** No process, memory or file descriptor left; or the binary is just being written. */
const STARVED: readonly string[] = ['EAGAIN', 'ENOMEM', 'EMFILE', 'ENFILE', 'ETXTBSY'];

/** The error for a binary that is something else, or does not run here. */
export function notAnEnvoy(binary: string, cause?: unknown): Pm2EnvoyError {
  const reason = systemCodeOf(cause) ?? 'its --version shows no version';
  return new Pm2EnvoyError(
    'envoy-not-found',
    `${binary} is not an Envoy that runs here (${reason}): check envoy-bin, ENVOY_BIN and PATH`,
    { cause },
  );
}
