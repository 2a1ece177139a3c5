import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type AdminClient, createAdminClient } from '../admin/client.js';
import { type Clock, systemClock } from '../clock.js';
import type { Config } from '../config/config.js';
import { formatDuration } from '../config/duration.js';
import { envoyArguments } from '../envoy/arguments.js';
import { isEnvoy, notAnEnvoy } from '../envoy/bootstrap.js';
import { notRedeployable, planHandover, socketModes } from '../envoy/handover.js';
import { launchOf } from '../envoy/launch.js';
import { createOutputPipes, type OutputPipes } from '../envoy/output.js';
import {
  behindWrapper,
  describeExit,
  type EnvoyProcess,
  startEnvoy,
  terminateEnvoy,
} from '../envoy/process.js';
import { type BootstrapFacts, readBootstrap } from '../envoy/read-bootstrap.js';
import { describeWaiting } from '../envoy/waiting.js';
import { isPm2EnvoyError, messageOf, Pm2EnvoyError } from '../errors.js';
import type { BootstrapAdmin } from '../host/bootstrap-admin.js';
import {
  bootstrapCopyOf,
  type Generation,
  type GenerationSlot,
  type Generations,
} from '../host/generations.js';
import { endLikeThis, outOfMemoryKills, outOfMemorySince } from '../host/memory.js';
import { ownIdentity } from '../host/process-identity.js';
import { keepSocketPaths, recoverSocketPaths } from '../host/socket-paths.js';
import type { Log } from '../log.js';
import { ownSupervisor } from '../pm2/supervisor.js';
import type { Prepared } from '../steering/prepare.js';
import type { Steering } from '../steering/steering.js';
import type { HostHold } from './drain-meanwhile.js';
import { endAbandoned, generationInService, prepareProof } from './proof.js';

/** A generation that this runner is responsible for. */
export interface RunningGeneration {
  generation: Generation;
  envoy: EnvoyProcess;
}

const READY_POLL_MS = 5;
const READY_TIMEOUT_MS = 1_000;
/**
 * What Envoy takes for a fault of its configuration at its start, but not in a validation: a file of LDS that is
 * not there. Beside an Envoy in service that is no reason to try again; a first start may be early. A port that
 * another program has is no fault of the configuration.
 */
const IS_CONFIGURATION = /^(?!.*cannot bind).*initializing config/s;

interface StartOptions {
  binary: string;
  config: Config;
  generations: Generations;
  liveLimitMs: number;
  /** Left out: UDP packets are not steered. */
  steering?: Steering;
  log: Log;
  hold?: HostHold;
  /**
   * Throws if Envoy refuses the bootstrap. Given where that was not checked before, as nothing serves: Envoy's own
   * start is the check then, and this says what is wrong if Envoy does not read the bootstrap, or ends.
   */
  check?: () => Promise<void>;
  clock?: Clock;
}

/**
 * Starts a generation and waits until it is LIVE and serves what the one in service serves
 * ({@link prepareProof}). Unix sockets stay with the one in service until then, and for good if it fails.
 *
 * @param binary from {@link checkLaunch}
 * @throws Pm2EnvoyError `envoy-start-failed` when it ends, is not LIVE within `liveLimitMs`, or `signal`
 *   aborts before Envoy has opened its listeners; `generation-incomplete`; `listener-not-redeployable` before anything is started. No Envoy is
 *   left then
 */
export async function startGeneration(
  options: StartOptions,
  signal: AbortSignal,
): Promise<RunningGeneration> {
  const { generations, log, clock = systemClock } = options;
  const startedMs = clock.nowMs();
  if (signal.aborted) throw stoppedEarly();
  const before = generationInService(generations);
  if (before) await endAbandoned(before, { generations, log, clock });
  const facts = await readOrWarn(options, signal);
  const handover = before && (await planHandover(before, facts?.listeners));
  for (const note of handover?.notes ?? []) log.warn(note);
  if (handover?.obstacles[0]) throw notRedeployable(handover.obstacles);
  const slot = generations.reserve();
  // Only now: who drains the host sees the folder, or else its drain is seen here.
  if (options.hold?.drain()) {
    rmSync(slot.directory, { recursive: true, force: true });
    throw stoppedEarly();
  }
  const paths = handover?.socketPaths ?? [];
  if (before) recoverSocketPaths(paths, before.number);
  const kept = before && keepSocketPaths(paths, { before: before.number, now: slot.number }, log);
  try {
    const running = await launch(
      { ...options, clock, slot, before, bootstrapAdmin: facts?.admin },
      signal,
    );
    if (paths.length > 0) kept?.handOver(await socketModes(running.generation, log));
    const { version, number, envoy } = running.generation;
    const tookMs = clock.nowMs() - startedMs;
    log.info(
      { generation: number, envoyPid: envoy.pid, tookMs },
      `Envoy ${version} is LIVE: generation ${number}, pid ${envoy.pid}`,
    );
    return running;
  } catch (error) {
    kept?.giveBack();
    throw error;
  }
}

interface Launch extends StartOptions {
  clock: Clock;
  slot: GenerationSlot;
  before: Generation | undefined;
  bootstrapAdmin: BootstrapAdmin | undefined;
}

async function launch(options: Launch, signal: AbortSignal): Promise<RunningGeneration> {
  const { binary, config, generations, steering, log, slot, before, bootstrapAdmin, clock } =
    options;
  keepBootstrap(config.envoyConfig, slot, log);
  const proof = await prepareProof(before, { log, clock });
  const prepared = await steering?.prepare(slot, { bootstrap: config.envoyConfig, binary });
  const pipes = createOutputPipes(slot.directory, log);
  const killsBefore = outOfMemoryKills();
  const started = await startPrepared(options, prepared, pipes);
  const generation: Generation = {
    ...slot,
    envoy: started.identity,
    runner: ownIdentity(),
    supervisor: ownSupervisor(),
    version: undefined,
    launch: launchOf(binary, config),
    admin: bootstrapAdmin,
    startedAt: new Date().toISOString(),
    ready: false,
    orphaned: false,
    ...(options.hold ? { afterDrain: options.hold.afterDrain() } : {}),
  };
  const admin = createAdminClient({ kind: 'unix', path: slot.adminSocket }, READY_TIMEOUT_MS);
  // With 10,000 clusters an answer may take a second.
  const asked = createAdminClient({ kind: 'unix', path: slot.adminSocket });
  const { complaint, fault } = pipes;
  try {
    writeDown(generation, generations);
    const candidate = { number: slot.number, admin: asked, complaint };
    const foresee = (waitedMs: number): Promise<void> => proof.foresee(candidate, waitedMs);
    await untilLive(
      { ...options, envoy: started, admin, fault, complaint, killsBefore, foresee },
      signal,
    );
    let found: EnvoyProcess | undefined;
    const behind = (): EnvoyProcess => {
      found ??= behindWrapper(started, slot.adminSocket);
      return found;
    };
    await proof.pass({ ...candidate, pid: () => behind().identity.pid }, signal);
    const envoy = behind();
    const { version } = await asked.serverInfo(signal);
    await steering?.takeOver({ ...generation, envoy: envoy.identity });
    const ready = { ...generation, envoy: envoy.identity, version, ready: true };
    // Now others depend on it. Before it is written down: no later runner would do it.
    endLikeThis(new Set([started.identity.pid, envoy.identity.pid]));
    writeDown(ready, generations);
    return { generation: ready, envoy };
  } catch (error) {
    if (!signal.aborted || !(await mayHaveAccepted(admin))) {
      // A script may have ended before the Envoy that it has started.
      await terminateEnvoy(started.identity, started.identity.pid);
      throw error;
    }
    return await keepAccepting(generation, { started, admin, generations, log });
  } finally {
    admin.close();
    asked.close();
  }
}

async function startPrepared(
  { binary, config, slot, bootstrapAdmin, check }: Launch,
  prepared: Prepared | undefined,
  pipes: OutputPipes,
): Promise<EnvoyProcess> {
  const args = envoyArguments({
    bootstrap: prepared?.bootstrap ?? config.envoyConfig,
    adminSocket: slot.adminSocket,
    admin: bootstrapAdmin,
    drainTimeMs: config.envoyDrainTimeMs,
    args: config.envoyArgs,
    overrides: prepared?.overrides,
  });
  const [command = binary, ...words] = [...(prepared?.launcher ?? []), binary, ...args];
  return startEnvoy(command, words, pipes.stdio)
    .catch(async (error: unknown) => {
      if (!(await isEnvoy(binary))) throw notAnEnvoy(binary);
      await check?.();
      throw error;
    })
    .finally(pipes.closeChildEnds);
}

/** One that is stopped before anyone has seen it LIVE, and may have accepted something. */
async function keepAccepting(
  generation: Generation,
  from: { started: EnvoyProcess; admin: AdminClient; generations: Generations; log: Log },
): Promise<RunningGeneration> {
  const { started, admin, generations, log } = from;
  const { number, adminSocket } = generation;
  log.info(`generation ${number} has opened its listeners: it is drained before it ends`);
  const version = await admin.serverInfo().then(
    (info) => info.version,
    () => 'unknown',
  );
  const envoy = behindWrapper(started, adminSocket);
  endLikeThis(new Set([started.identity.pid, envoy.identity.pid]));
  const accepting = { ...generation, envoy: envoy.identity, version, ready: true };
  try {
    writeDown(accepting, generations);
  } catch (fault) {
    log.warn(messageOf(fault));
  }
  return { generation: accepting, envoy };
}

/** No one would find an Envoy that is not recorded. */
function writeDown(generation: Generation, generations: Generations): void {
  try {
    generations.write(generation);
  } catch (error) {
    throw new Pm2EnvoyError(
      'envoy-start-failed',
      `generation ${generation.number} can't be recorded (${messageOf(error)}), so its Envoy is not kept: is there room on the disk of ${generation.directory}?`,
      { cause: error },
    );
  }
}

/** Envoy serves without it; the bootstrap's admin address is not relayed then, and its listeners are not compared. */
async function readOrWarn(
  { binary, config: { envoyConfig: bootstrap, envoyArgs: args }, log, check }: StartOptions,
  signal: AbortSignal,
): Promise<BootstrapFacts | undefined> {
  try {
    return await readBootstrap(binary, { bootstrap, args }, signal);
  } catch (error) {
    if (signal.aborted) throw stoppedEarly();
    if (!(await isEnvoy(binary))) throw notAnEnvoy(binary);
    await check?.();
    log.warn(messageOf(error));
    return undefined;
  }
}

/** For a redeploy to say what changes; Envoy itself reads the user's own file. */
function keepBootstrap(file: string, slot: GenerationSlot, log: Log): void {
  try {
    writeFileSync(bootstrapCopyOf(slot), readFileSync(file), { mode: 0o600 });
  } catch (error) {
    log.debug(`no copy of the bootstrap: ${messageOf(error)}`);
  }
}

/** Whether ending it now could cut what it has accepted: it is LIVE, though no one has seen that yet. */
async function mayHaveAccepted(admin: AdminClient): Promise<boolean> {
  return admin.state().then(
    (state) => state === 'LIVE' || state === 'DRAINING',
    // Envoy answers here before it opens its first listener.
    () => false,
  );
}

function stoppedEarly(): Pm2EnvoyError {
  return new Pm2EnvoyError('envoy-start-failed', 'stopped before Envoy was LIVE');
}

async function untilLive(
  watched: Launch & {
    envoy: EnvoyProcess;
    admin: AdminClient;
    fault(): Promise<string | undefined>;
    complaint(): string | undefined;
    /** Throws as soon as there is no point in waiting. */
    foresee(waitedMs: number): Promise<void>;
    /** What the kernel had ended for lack of memory before. */
    killsBefore: number | undefined;
  },
  signal: AbortSignal,
): Promise<void> {
  const { binary, envoy, admin, fault, foresee, liveLimitMs, clock } = watched;
  const startedMs = clock.nowMs();
  const deadlineMs = startedMs + liveLimitMs;
  let ended: string | undefined;
  void envoy.exited.then((exit) => {
    ended = describeExit(exit) + outOfMemorySince(watched.killsBefore);
  });
  let last = 'its admin interface did not answer';
  let hasAnswered = false;
  while (clock.nowMs() < deadlineMs) {
    if (signal.aborted) throw stoppedEarly();
    if (ended) {
      if (!(await isEnvoy(binary))) throw notAnEnvoy(binary);
      await watched.check?.();
      const reason = await fault();
      throw new Pm2EnvoyError(
        watched.before && reason && IS_CONFIGURATION.test(reason)
          ? 'bootstrap-invalid'
          : 'envoy-start-failed',
        `Envoy ${ended} before it was LIVE: ${reason ?? 'its own log says why'}`,
      );
    }
    try {
      const state = await admin.state(signal);
      // DRAINING is LIVE with a failed health check: the host is being drained meanwhile.
      if (state === 'LIVE' || state === 'DRAINING') return;
      last = describeWaiting(state);
      hasAnswered = true;
    } catch (error) {
      if (!isPm2EnvoyError(error)) throw error;
    }
    if (hasAnswered) await foresee(clock.nowMs() - startedMs);
    await clock.sleep(READY_POLL_MS, signal);
  }
  const said = watched.complaint();
  throw new Pm2EnvoyError(
    'envoy-start-failed',
    `Envoy was not LIVE within ${formatDuration(liveLimitMs)}: ${last}${said ? `; its log says: ${said}` : ''}`,
  );
}
