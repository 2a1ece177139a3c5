import { execFile } from 'node:child_process';
import { cpSync, readFileSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import type { StoppedContainer } from '../../src/cli/doctor/container.js';
import { findContainers } from '../../src/cli/doctor/manifest.js';
import type { Edge } from './edge.js';
import { makeFolder } from './folder.js';
import { podman, podmanEnv } from './podman.js';

const DEPLOY = resolve(import.meta.dirname, '../../deploy');
/** Pulling nothing, but starting three containers on a busy machine. */
const LIMIT_MS = 180_000;

/** The container of a file of deploy/, as the doctor reads it. */
export async function containerOf(file: string): Promise<StoppedContainer> {
  const [container] = await findContainers(readFileSync(resolve(DEPLOY, file), 'utf8'));
  if (!container) throw new Error(`no container in deploy/${file}`);
  return container;
}

/** The variables of such a container. */
export function environmentOf({ variables }: StoppedContainer): Record<string, string> {
  return Object.fromEntries(
    [...variables].map(([name, value]) => {
      if (value === undefined) throw new Error(`${name} is not in the file`);
      return [name, value];
    }),
  );
}

/** How the end of a container went; times since its signal, in milliseconds. */
export interface Stop {
  endAtMs: number;
  /** 137: by SIGKILL. */
  exitCode: number;
}

/** Signals a container, and kills it when the platform's time is over. */
export async function stopBy(
  { name, exitCode }: Pick<Edge, 'name' | 'exitCode'>,
  { signal, graceMs }: { signal: string; graceMs: number },
): Promise<Stop> {
  const startMs = performance.now();
  await podman('kill', '--signal', signal, name);
  const timer: { id?: NodeJS.Timeout } = {};
  const over = new Promise<'over'>((done) => {
    timer.id = setTimeout(() => done('over'), graceMs);
  });
  const ended = podman('wait', name);
  if ((await Promise.race([ended, over])) === 'over') {
    await podman('kill', '--signal', 'SIGKILL', name).catch(() => undefined);
    await ended;
  }
  clearTimeout(timer.id);
  return { endAtMs: Math.round(performance.now() - startMs), exitCode: await exitCode() };
}

/** Runs podman-compose with a file, on a host of the test's own; gives what it prints. */
export async function compose(
  { within, folder, project }: { within: readonly string[]; folder: string; project: string },
  file: string,
  ...args: readonly string[]
): Promise<string> {
  const binary = process.env['PODMAN_COMPOSE_BIN'] ?? 'podman-compose';
  const words = [...within, binary, '--project-name', project, '--file', file, ...args];
  const [command = '', ...rest] = words;
  const { stdout, stderr } = await promisify(execFile)(command, rest, {
    cwd: folder,
    timeout: LIMIT_MS,
    maxBuffer: 1 << 26,
    // What `pip install --target` has put beside it, and no Python knows of.
    env: { ...podmanEnv(), PYTHONPATH: dirname(dirname(binary)) },
  });
  return stdout + stderr;
}

/** The unit of systemd that Podman's own generator makes of a .container file. */
export async function quadletUnit(file: string): Promise<string> {
  const binary = process.env['QUADLET_BIN'] ?? '/usr/libexec/podman/quadlet';
  const folder = makeFolder();
  try {
    cpSync(file, join(folder.path, basename(file)));
    const { stdout } = await promisify(execFile)(binary, ['-dryrun'], {
      timeout: LIMIT_MS,
      env: { ...process.env, QUADLET_UNIT_DIRS: folder.path },
    });
    return stdout;
  } finally {
    folder.remove();
  }
}
