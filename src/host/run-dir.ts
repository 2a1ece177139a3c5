import { chmodSync, existsSync, lstatSync, mkdirSync, readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, isAbsolute, join } from 'node:path';
import { messageOf, Pm2EnvoyError, systemCodeOf } from '../errors.js';
import { readEndpoint } from './endpoint.js';
import { probeWrite } from './files.js';
import { openGenerations } from './generations.js';

/** Longest path of a unix socket that Linux and macOS take, less the part below the run directory. */
const LONGEST_PATH = 104 - '/generations/999999/admin.sock'.length;

const OWN_FILES =
  /^(generations|drains|(manager|counted|failed-start)\.json|shutdown-.*\.(json|decision)|validate-.*\.log|\.probe-.*)/;

/** The default places, best first (docs/configuration.md, run-dir). */
export function defaultRunDirs(env: NodeJS.ProcessEnv = process.env): string[] {
  const runtime = env['XDG_RUNTIME_DIR'];
  const user = process.getuid?.() ?? 'user';
  return [
    '/run/pm2-envoy',
    ...(runtime && isAbsolute(runtime) ? [join(runtime, 'pm2-envoy')] : []),
    join(tmpdir(), `pm2-envoy-${user}`),
  ];
}

/**
 * Every place where a process of this user may have put its run directory: XDG_RUNTIME_DIR is there after a
 * login and not at boot, and the temp folder is whatever TMPDIR says.
 */
function searchedRunDirs(): string[] {
  const user = process.getuid?.();
  const ofOthers =
    user === undefined ? [] : [`/run/user/${user}/pm2-envoy`, `/tmp/pm2-envoy-${user}`];
  return [...new Set([...defaultRunDirs(), ...ofOthers])];
}

/** The default place that this host uses now, for every process the same: an Envoy lives in it, or a manager. */
function runDirInUse(): string | undefined {
  const places = searchedRunDirs().filter(isOwnFolder);
  return (
    places.find((directory) => openGenerations(directory).live().length > 0) ??
    places.find((directory) => readEndpoint(directory) !== undefined)
  );
}

/**
 * Makes the run directory ready: the configured one, or else the default place that is in use, or else the
 * first that works. It is ours alone (mode 0700, our user): a program that can write here could pose as Envoy.
 *
 * @throws Pm2EnvoyError `run-dir-unusable`
 */
export function prepareRunDir(configured: string | undefined): string {
  const failures: string[] = [];
  // One that is in use and can't be written is no reason to take another: two would know half of the host each.
  const only = configured ?? runDirInUse();
  for (const directory of only ? [only] : defaultRunDirs()) {
    try {
      makePrivate(directory);
      probeWrite(directory);
      return directory;
    } catch (error) {
      failures.push(`${directory}: ${messageOf(error)}`);
    }
  }
  throw new Pm2EnvoyError(
    'run-dir-unusable',
    `the run directory can't be used (${failures.join('; ')}): set run-dir to a directory that this user can write to`,
  );
}

/** The run directory to read from, without making one: the one in use, or where generations were. */
export function findRunDir(configured: string | undefined): string {
  if (configured) return configured;
  const inUse = runDirInUse();
  if (inUse) return inUse;
  const places = searchedRunDirs().filter(isOwnFolder);
  const wasUsed = places.find((directory) => isOwnFolder(join(directory, 'generations')));
  return wasUsed ?? places[0] ?? defaultRunDirs()[0] ?? tmpdir();
}

/** Why a path can't be that of a run directory; undefined: it can. */
export function pathFault(directory: string): string | undefined {
  return Buffer.byteLength(directory) > LONGEST_PATH
    ? `its path is longer than ${LONGEST_PATH} bytes, too long for a unix socket`
    : undefined;
}

function makePrivate(directory: string): void {
  const fault = pathFault(directory);
  if (fault) throw new Error(fault);
  // Node 20 never comes back from a recursive mkdir below a folder that refuses with ENOENT, as /proc does.
  const recursive = !existsSync(dirname(directory));
  try {
    mkdirSync(directory, { recursive, mode: 0o700 });
  } catch (error) {
    // There already, or made just now by the other app.
    if (systemCodeOf(error) !== 'EEXIST') throw error;
  }
  if (!isOwnFolder(directory)) throw new Error('it is not a directory that belongs to this user');
  if ((lstatSync(directory).mode & 0o077) === 0) return;
  // A shared folder (/tmp, a home) must not be closed to everyone else.
  const strange = readdirSync(directory).find((name) => !OWN_FILES.test(name));
  if (strange) {
    throw new Error(`other users may read it, and it contains more than our files (${strange})`);
  }
  chmodSync(directory, 0o700);
}

/** What a new generation writes before it is LIVE, beside a copy of the bootstrap. */
const ROOM_BYTES = 64 * 1024;

/** Why a runner could write nothing more into a run directory; undefined: it could. */
export function faultOfRoom(directory: string, moreBytes = 0): string | undefined {
  try {
    probeWrite(directory, ROOM_BYTES + moreBytes);
    return undefined;
  } catch (error) {
    return messageOf(error);
  }
}

/** Whether it is a folder, no link to one, that belongs to this user. */
export function isOwnFolder(directory: string): boolean {
  try {
    const found = lstatSync(directory);
    return found.isDirectory() && (process.getuid === undefined || found.uid === process.getuid());
  } catch {
    return false;
  }
}
