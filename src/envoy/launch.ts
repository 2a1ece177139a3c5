import { accessSync, constants } from 'node:fs';
import { resolve } from 'node:path';
import { messageOf, Pm2EnvoyError, systemCodeOf } from '../errors.js';
import type { GenerationLaunch } from '../host/generations.js';
import { inMebibytes, memoryRoom, ownMemoryBytes } from '../host/memory.js';
import { findEnvoy } from './binary.js';
import { type BootstrapCheck, validateBootstrap } from './validate.js';

/** What of the configuration says how Envoy is started. */
export interface LaunchSettings {
  readonly envoyBin: string | undefined;
  readonly envoyConfig: string;
  readonly envoyArgs: readonly string[];
  readonly envoyDrainTimeMs: number;
}

/** What {@link checkLaunch} found. */
export interface CheckedLaunch {
  binary: string;
  check: BootstrapCheck;
}

/** For the runner that comes with a second Envoy, and for what that one may need beyond the first. */
const SPARE_BYTES = 64 * 2 ** 20;

/**
 * Finds the binary, and the bootstrap file; nothing is started.
 *
 * @throws Pm2EnvoyError `envoy-not-found`; `bootstrap-invalid` when there is no such file
 */
export function findLaunch(
  config: LaunchSettings,
  from: { env?: NodeJS.ProcessEnv; cwd?: string } = {},
): string {
  const { path: binary } = findEnvoy(config.envoyBin, from.env);
  checkReadable(config.envoyConfig, from.cwd);
  return binary;
}

/**
 * Finds the binary and has it check the bootstrap; nothing is started. Beside an Envoy that serves, and without room
 * for a second one, the bootstrap is not checked.
 *
 * @param from environment and folder of the app, when another process asks; pid of the Envoy that serves; `stop`
 *   ends the check
 * @throws Pm2EnvoyError `envoy-not-found`, `bootstrap-invalid`
 */
export async function checkLaunch(
  config: LaunchSettings,
  runDir: string,
  from: {
    env?: NodeJS.ProcessEnv;
    cwd?: string;
    servingPid?: number | undefined;
    stop?: AbortSignal;
  } = {},
): Promise<CheckedLaunch> {
  const binary = findLaunch(config, from);
  const noRoom = from.servingPid === undefined ? undefined : whyNoRoom(from.servingPid);
  if (noRoom !== undefined) return { binary, check: { kind: 'unchecked', reason: noRoom } };
  const launch = { bootstrap: config.envoyConfig, args: config.envoyArgs, cwd: from.cwd };
  return { binary, check: await validateBootstrap(binary, launch, runDir, { stop: from.stop }) };
}

/**
 * Checks that there is a bootstrap, and that it can be read.
 *
 * @throws Pm2EnvoyError `bootstrap-invalid`
 */
export function checkReadable(bootstrap: string, cwd = '.'): void {
  try {
    accessSync(resolve(cwd, bootstrap), constants.R_OK);
  } catch (error) {
    const why = systemCodeOf(error) === 'ENOENT' ? 'there is no such file' : messageOf(error);
    throw new Pm2EnvoyError(
      'bootstrap-invalid',
      `the bootstrap file ${bootstrap} (envoy-config) can't be read: ${why}`,
      { cause: error },
    );
  }
}

/** Why a second Envoy like the one that serves may not fit into memory; undefined: it does, or it can't be told. */
function whyNoRoom(servingPid: number): string | undefined {
  const room = memoryRoom(servingPid);
  const needed = ownMemoryBytes(servingPid);
  if (!room || needed === undefined || room.leftBytes >= needed + SPARE_BYTES) return undefined;
  const reason = `the bootstrap was not checked, which takes a second Envoy: the one that serves has ${inMebibytes(needed)}, and ${room.limit} leaves ${inMebibytes(room.leftBytes)}`;
  return room.endsAll
    ? `${reason}; when memory runs out, the kernel ends the one that serves too (memory.oom.group)`
    : reason;
}

/** What a generation of this configuration is started with. */
export function launchOf(binary: string, config: LaunchSettings): GenerationLaunch {
  const { envoyConfig: bootstrap, envoyArgs: args, envoyDrainTimeMs: drainTimeMs } = config;
  return { binary, bootstrap, args, drainTimeMs };
}
