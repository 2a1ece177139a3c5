import { execFile, spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { parse } from 'yaml';
import { messageOf, Pm2EnvoyError, systemCodeOf } from '../errors.js';
import { type EnvoyLaunch, validateArguments } from './arguments.js';
import { childEnvironment } from './process.js';

const run = promisify(execFile);
const VALIDATE_LIMIT_MS = 30_000;

/** An admin address as the bootstrap names it: a TCP port or a unix socket. */
export type BootstrapAdmin = { host: string; port: number } | { path: string; mode?: number };

/**
 * Reads the admin address of a bootstrap file (YAML or JSON), so that whatever uses it can be relayed
 * to the newest generation.
 *
 * @returns undefined when the bootstrap names none
 * @throws Pm2EnvoyError `bootstrap-invalid` when the file can't be read
 */
export function readBootstrapAdmin(file: string): BootstrapAdmin | undefined {
  let bootstrap: unknown;
  try {
    bootstrap = parse(readFileSync(file, 'utf8'));
  } catch (error) {
    throw new Pm2EnvoyError(
      'bootstrap-invalid',
      `the bootstrap file ${file} (envoy-config) can't be read: ${messageOf(error).split('\n')[0]}`,
      { cause: error },
    );
  }
  const address = (bootstrap as Bootstrap | null)?.admin?.address;
  const { path, mode } = address?.pipe ?? {};
  if (typeof path === 'string') return { path, ...(typeof mode === 'number' ? { mode } : {}) };
  const socket = address?.socket_address;
  const port = Number(socket?.port_value);
  if (typeof socket?.address !== 'string' || !Number.isInteger(port)) return undefined;
  return { host: socket.address, port };
}

/**
 * Has Envoy itself check a bootstrap file (`--mode validate`).
 *
 * Its output goes to a file in `scratchDir`: an access log on /dev/stdout is opened even by a
 * validation, and that fails on a socket, which Node's pipes are.
 *
 * @param launch `cwd`: where relative paths in the bootstrap start; this process's folder if left out
 * @throws Pm2EnvoyError `bootstrap-invalid` with Envoy's reason, or `envoy-not-found` when the
 *   binary is no Envoy that runs here
 */
export async function validateBootstrap(
  binary: string,
  launch: Pick<EnvoyLaunch, 'bootstrap' | 'args'> & { cwd?: string | undefined },
  scratchDir: string,
): Promise<void> {
  const file = join(scratchDir, `validate-${process.pid}.log`);
  const output = openSync(file, 'w', 0o600);
  try {
    const child = spawn(binary, validateArguments(launch), {
      stdio: ['ignore', output, output],
      env: childEnvironment(),
      cwd: launch.cwd,
      timeout: VALIDATE_LIMIT_MS,
      killSignal: 'SIGKILL',
    });
    const code = await new Promise<number | null>((resolve, reject) => {
      child.once('exit', resolve).once('error', reject);
    }).catch((error: unknown) => {
      throw notAnEnvoy(binary, error);
    });
    if (code === 0) return;
    if (!(await isEnvoy(binary))) throw notAnEnvoy(binary);
    const reason =
      code === null
        ? `it did not say within ${VALIDATE_LIMIT_MS / 1_000} s`
        : reasonOf(readFileSync(file, 'utf8'));
    throw new Pm2EnvoyError(
      'bootstrap-invalid',
      `Envoy refuses the bootstrap file ${launch.bootstrap} (envoy-config): ${reason}`,
    );
  } finally {
    closeSync(output);
    rmSync(file, { force: true });
  }
}

/** The version that a binary names (`envoy  version: COMMIT/1.40.0/…`); undefined: it is no Envoy. */
export async function versionOf(binary: string): Promise<string | undefined> {
  try {
    const { stdout } = await run(binary, ['--version'], { timeout: VALIDATE_LIMIT_MS });
    return /version: \w+\/(\d+\.\d+\.\d+[^/]*)/.exec(stdout)?.[1];
  } catch {
    return undefined;
  }
}

/** Whether a binary says that it is an Envoy. */
export async function isEnvoy(binary: string): Promise<boolean> {
  return (await versionOf(binary)) !== undefined;
}

/** The error for a binary that is something else, or does not run here. */
export function notAnEnvoy(binary: string, cause?: unknown): Pm2EnvoyError {
  const reason = systemCodeOf(cause) ?? 'its --version names none';
  return new Pm2EnvoyError(
    'envoy-not-found',
    `${binary} is not an Envoy that runs here (${reason}): check envoy-bin, ENVOY_BIN and PATH`,
    { cause },
  );
}

interface Bootstrap {
  admin?: {
    address?: {
      pipe?: { path?: unknown; mode?: unknown };
      socket_address?: { address?: unknown; port_value?: unknown };
    };
  };
}

/** Envoy's last critical or error line, without its prefix; the last line of anything else. */
function reasonOf(output: string): string {
  const lines = output.split('\n').filter((line) => line.trim() !== '');
  const fault = lines.findLast((line) => /\]\[(critical|error)\]/.test(line)) ?? lines.at(-1) ?? '';
  return fault.replace(/^(\[[^\]]*\])+ (\[[^\]]*\] )?/, '').slice(0, 500);
}
