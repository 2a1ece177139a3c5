import { readFileSync, writeFileSync } from 'node:fs';
import { type AdminClient, createAdminClient } from '../admin/client.js';
import { type Clock, systemClock } from '../clock.js';
import type { Config } from '../config/config.js';
import { formatDuration } from '../config/duration.js';
import { envoyArguments } from '../envoy/arguments.js';
import { isEnvoy, notAnEnvoy } from '../envoy/bootstrap.js';
import { launchOf } from '../envoy/launch.js';
import { createOutputPipes } from '../envoy/output.js';
import { describeExit, type EnvoyProcess, startEnvoy, terminateEnvoy } from '../envoy/process.js';
import { isPm2EnvoyError, messageOf, Pm2EnvoyError } from '../errors.js';
import {
  bootstrapCopyOf,
  type Generation,
  type GenerationSlot,
  type Generations,
} from '../host/generations.js';
import { ownIdentity } from '../host/process-identity.js';
import type { Log } from '../log.js';
import { ownSupervisor } from '../pm2/supervisor.js';

/** A generation that this runner answers for. */
export interface RunningGeneration {
  generation: Generation;
  envoy: EnvoyProcess;
}

const READY_POLL_MS = 10;
const READY_TIMEOUT_MS = 1_000;

/**
 * Starts a generation and waits until it is LIVE.
 *
 * @param binary from {@link checkLaunch}
 * @throws Pm2EnvoyError `envoy-start-failed` when it ends, is not LIVE within `liveLimitMs`, or `signal`
 *   aborts; no Envoy is left then
 */
export async function startGeneration(
  options: {
    binary: string;
    config: Config;
    generations: Generations;
    liveLimitMs: number;
    log: Log;
    clock?: Clock;
  },
  signal: AbortSignal,
): Promise<RunningGeneration> {
  const { binary, config, generations, log, clock = systemClock } = options;
  const startedMs = clock.nowMs();
  if (signal.aborted) throw stoppedEarly();
  const slot = generations.reserve();
  keepBootstrap(config.envoyConfig, slot, log);
  const pipes = createOutputPipes(slot.directory, log);
  const args = envoyArguments({
    bootstrap: config.envoyConfig,
    adminSocket: slot.adminSocket,
    drainTimeMs: config.envoyDrainTimeMs,
    args: config.envoyArgs,
  });
  const envoy = await startEnvoy(binary, args, pipes.stdio)
    .catch(async (error: unknown) => {
      throw (await isEnvoy(binary)) ? error : notAnEnvoy(binary);
    })
    .finally(pipes.closeChildEnds);
  const generation: Generation = {
    ...slot,
    envoy: envoy.identity,
    runner: ownIdentity(),
    supervisor: ownSupervisor(),
    version: undefined,
    launch: launchOf(binary, config),
    startedAt: new Date().toISOString(),
    ready: false,
    orphaned: false,
  };
  generations.write(generation);
  const admin = createAdminClient({ kind: 'unix', path: slot.adminSocket }, READY_TIMEOUT_MS);
  let version: string;
  try {
    await untilLive({ ...options, clock, envoy, admin }, signal);
    version = (await admin.serverInfo(signal)).version;
  } catch (error) {
    await terminateEnvoy(envoy.identity);
    throw error;
  } finally {
    admin.close();
  }
  const ready = { ...generation, version, ready: true };
  generations.write(ready);
  const { pid } = envoy.identity;
  const tookMs = clock.nowMs() - startedMs;
  log.info(
    { generation: slot.number, envoyPid: pid, tookMs },
    `Envoy ${version} is LIVE: generation ${slot.number}, pid ${pid}`,
  );
  return { generation: ready, envoy };
}

/** For a redeploy to say what changes; Envoy itself reads the user's own file. */
function keepBootstrap(file: string, slot: GenerationSlot, log: Log): void {
  try {
    writeFileSync(bootstrapCopyOf(slot), readFileSync(file), { mode: 0o600 });
  } catch (error) {
    log.debug(`no copy of the bootstrap: ${messageOf(error)}`);
  }
}

function stoppedEarly(): Pm2EnvoyError {
  return new Pm2EnvoyError('envoy-start-failed', 'stopped before Envoy was LIVE');
}

async function untilLive(
  watched: {
    binary: string;
    envoy: EnvoyProcess;
    admin: AdminClient;
    liveLimitMs: number;
    clock: Clock;
  },
  signal: AbortSignal,
): Promise<void> {
  const { binary, envoy, admin, liveLimitMs, clock } = watched;
  const deadlineMs = clock.nowMs() + liveLimitMs;
  let ended: string | undefined;
  void envoy.exited.then((exit) => {
    ended = describeExit(exit);
  });
  let last = 'its admin interface did not answer';
  while (clock.nowMs() < deadlineMs) {
    if (signal.aborted) throw stoppedEarly();
    if (ended) {
      if (!(await isEnvoy(binary))) throw notAnEnvoy(binary);
      throw new Pm2EnvoyError(
        'envoy-start-failed',
        `Envoy ${ended} before it was LIVE; its own log says why`,
      );
    }
    try {
      const state = await admin.state(signal);
      // DRAINING is LIVE with its health failed: somebody drains the host meanwhile.
      if (state === 'LIVE' || state === 'DRAINING') return;
      last = `its state is ${state}`;
    } catch (error) {
      if (!isPm2EnvoyError(error)) throw error;
    }
    await clock.sleep(READY_POLL_MS, signal);
  }
  throw new Pm2EnvoyError(
    'envoy-start-failed',
    `Envoy was not LIVE within ${formatDuration(liveLimitMs)}: ${last}`,
  );
}
