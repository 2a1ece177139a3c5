import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, isAbsolute, join } from 'node:path';
import { messageOf, Pm2EnvoyError, systemCodeOf } from '../errors.js';

/** Longest path of a unix socket that Linux and macOS take, less the part below the run directory. */
const LONGEST_PATH = 104 - '/generations/999999/admin.sock'.length;

const OWN_FILES =
  /^(generations|(manager|counted)\.json|shutdown-.*\.(json|decision)|validate-.*\.log|\.probe-.*)/;

/** The default places, best first (contract 5). */
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
 * Makes the run directory ready: the configured one, or the first default place that works. It is
 * ours alone (mode 0700, our user): whoever could write here could pose as Envoy.
 *
 * @throws Pm2EnvoyError `run-dir-unusable`
 */
export function prepareRunDir(configured: string | undefined): string {
  const failures: string[] = [];
  for (const directory of configured ? [configured] : defaultRunDirs()) {
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
    `the run directory can't be used (${failures.join('; ')}): set run-dir to a folder that this user can write`,
  );
}

/** The run directory to read from, without making one: where generations are, or the best guess. */
export function findRunDir(configured: string | undefined): string {
  if (configured) return configured;
  const places = defaultRunDirs();
  const inUse = places.find((directory) => isOurs(join(directory, 'generations')));
  return inUse ?? places.find(isOurs) ?? places[0] ?? tmpdir();
}

function makePrivate(directory: string): void {
  if (Buffer.byteLength(directory) > LONGEST_PATH) {
    throw new Error(`its path is longer than ${LONGEST_PATH} bytes, too long for a unix socket`);
  }
  // Node 20 never comes back from a recursive mkdir below a folder that refuses with ENOENT, as /proc does.
  const recursive = !existsSync(dirname(directory));
  try {
    mkdirSync(directory, { recursive, mode: 0o700 });
  } catch (error) {
    // There already, or made just now by the other app.
    if (systemCodeOf(error) !== 'EEXIST') throw error;
  }
  if (!isOurs(directory)) throw new Error('it is not a folder that belongs to this user');
  if ((lstatSync(directory).mode & 0o077) === 0) return;
  // Closing somebody's own folder (/tmp, a home) to everybody else would be no kindness.
  const strange = readdirSync(directory).find((name) => !OWN_FILES.test(name));
  if (strange) {
    throw new Error(`others may look into it, and it holds more than ours (${strange})`);
  }
  chmodSync(directory, 0o700);
}

function probeWrite(directory: string): void {
  const probe = join(directory, `.probe-${process.pid}`);
  writeFileSync(probe, '');
  unlinkSync(probe);
}

function isOurs(directory: string): boolean {
  try {
    const found = lstatSync(directory);
    return found.isDirectory() && (process.getuid === undefined || found.uid === process.getuid());
  } catch {
    return false;
  }
}
