import cluster from 'node:cluster';
import { systemClock } from '../clock.js';
import { formatDuration } from '../config/duration.js';
import { createHostDrain } from '../drain/host-drain.js';
import { describeHeld } from '../drain/host-now.js';
import { createEnvoyLocator, hostRecords } from '../drain/locate.js';
import type { DrainRecord } from '../drain/record.js';
import { pruneRecords } from '../drain/record-files.js';
import { describeEnded } from '../drain/state.js';
import { checkLaunch, findLaunch } from '../envoy/launch.js';
import { describeExit } from '../envoy/process.js';
import type { AdminRelay } from '../envoy/relay.js';
import { messageOf, Pm2EnvoyError } from '../errors.js';
import { EXIT } from '../exit-codes.js';
import { migrateAcceptQueues } from '../host/accept-queue.js';
import { forgetFailedStart, noteFailedStart } from '../host/failed-start.js';
import {
  type Generations,
  isAttended,
  openGenerations,
  successorsOf,
} from '../host/generations.js';
import { outOfMemoryKills, outOfMemorySince } from '../host/memory.js';
import { signalProcess } from '../host/process-identity.js';
import { prepareRunDir } from '../host/run-dir.js';
import { describeSupervisor, sameSupervisor } from '../host/supervisor.js';
import type { PluginHost } from '../plugins/api/types.js';
import { createHostOrBareOne } from '../plugins/drain-host.js';
import { drainLimitMs, LIVE_LIMIT_MS } from '../pm2/apps.js';
import { type App, boot } from '../pm2/boot.js';
import { loadPm2Client } from '../pm2/daemon.js';
import { daemonVersion, watchDaemonEnd } from '../pm2/daemon-end.js';
import { onReopenLogs } from '../pm2/log-signals.js';
import { openOwnApp } from '../pm2/own-app.js';
import { namesMeet } from '../pm2/project.js';
import { onStop } from '../pm2/stop-signals.js';
import { ownSupervisor } from '../pm2/supervisor.js';
import { createLazySteering } from '../steering/lazy.js';
import type { Steering } from '../steering/steering.js';
import { adoptDrained, adoptGeneration } from './adopt.js';
import { type HostHold, openHold } from './drain-meanwhile.js';
import { bringTogether } from './elsewhere.js';
import { refuseOtherContainer } from './other-container.js';
import { relayAdmin } from './relay-admin.js';
import { reopenLogs } from './reopen-logs.js';
import { type RunningGeneration, startGeneration } from './start.js';
import { type StopContext, stopGeneration, takeOverFromOlder } from './stop.js';
import { watchStuck } from './stuck.js';

const SUCCESSOR_WATCH_MS = 1_000;
/** How often a runner looks whether the host is drained, or brought back, before it has an Envoy that serves. */
const HOLD_WATCH_MS = 100;

/** The pm2 app `envoy`: owns one generation, and is what pm2 signals in Envoy's place. */
await boot('envoy', runOrEnd, { evenMisconfigured: true });

async function runOrEnd(app: App): Promise<void> {
  try {
    await run(app);
  } catch (error) {
    // Before version 7 pm2 waits for one that has exited, for the whole listen_timeout, and shows it as online then.
    if (daemonVersion() < 7) app.channel.sayReady();
    throw error;
  }
}

async function run(app: App): Promise<void> {
  const { log, channel, exit } = app;
  // Without it a cluster worker exits as soon as the daemon is gone, and Envoy with it undrained.
  if (cluster.worker) cluster.worker.exitedAfterDisconnect = true;
  if (isLeftOver(process.env['pm_id'])) {
    log.warn('a reload replaces this runner, which has ended: there is nothing to start again');
    await exit(EXIT.stoppedBeforeLive);
  }
  const runner = await openRunner(app);
  app.survivesFaults = () => runner.isStopping;
  const bringing = bringUpOrHold(runner);
  const stop = (reason: string, signalledAtMs = Date.now()): Promise<void> =>
    stopRunner(runner, bringing, { reason, signalledAtMs });
  onStop((reason, atMs) => void stop(reason, atMs));
  onReopenLogs(() => void reopenLogs(runner.generations, log));
  const hasPm2Ended = watchDaemonEnd();
  channel.onDisconnect(() => {
    // It tells its apps to stop first, but not one that it has started meanwhile.
    if (hasPm2Ended()) return void stop('pm2 has ended');
    runner.hasLostPm2 = true;
    // Nothing is served yet, and no one would watch over it.
    runner.starting.abort();
  });

  const running = await bringing;
  if (!running || runner.isStopping) return;
  watchRunning(runner, running);
  const markOrphaned = (): void =>
    leaveToSuccessor(runner, running, () => void stop('a newer generation serves'));
  if (runner.hasLostPm2) markOrphaned();
  else channel.onDisconnect(markOrphaned);
  await putInService(runner, running);
}

/** One runner, from its start to its end. */
interface Runner {
  readonly app: App;
  readonly runDir: string;
  readonly generations: Generations;
  readonly steering: Steering;
  readonly host: PluginHost;
  readonly hold: HostHold;
  readonly context: StopContext;
  /** Why it can't start a generation of its own. */
  readonly problem: unknown;
  /** Aborts when no generation is to be started any more. */
  readonly starting: AbortController;
  /** Aborts when it is told to stop. */
  readonly stopping: AbortController;
  isReady: boolean;
  isStopping: boolean;
  hasLostPm2: boolean;
  /** What told it to stop. */
  stoppedBy: { detail?: string };
  relay: AdminRelay | undefined;
}

async function openRunner(app: App): Promise<Runner> {
  const { config, log } = app;
  const runDir = prepareRunDir(config.runDir);
  const generations = openGenerations(runDir);
  refuseStrangers(generations, runDir);
  const steering = createLazySteering({ generations, runDir, log });
  await refuseOtherContainer(runDir);
  const namesProblem = namesMeet(bringTogether(runDir, log));
  // A plugin that can't be loaded stops a new generation, but not the drain of the one in service.
  const { host, pluginError } = await createHostOrBareOne(config, log);
  const runner: Runner = {
    ...{ app, runDir, generations, steering, host },
    hold: openHold(runDir, generations),
    context: {
      ...createStopContext(app, { runDir, generations, host }),
      stoppedBy: () => runner.stoppedBy,
      leaveRelay: async () => runner.relay?.close(),
    },
    problem: app.configError ?? namesProblem ?? pluginError,
    starting: new AbortController(),
    stopping: new AbortController(),
    isReady: false,
    isStopping: false,
    hasLostPm2: false,
    stoppedBy: {},
    relay: undefined,
  };
  return runner;
}

function sayReady(runner: Runner): void {
  runner.isReady = true;
  runner.app.channel.sayReady();
}

async function stopRunner(
  runner: Runner,
  bringing: Promise<RunningGeneration | undefined>,
  { reason, signalledAtMs }: { reason: string; signalledAtMs: number },
): Promise<void> {
  const { app, context, starting, stopping } = runner;
  // Signalled again: never 'hurry up'. pm2-runtime repeats SIGINT after 8.8 s by itself.
  if (runner.isStopping) return;
  runner.isStopping = true;
  app.log.info(`${reason}: stopping`);
  runner.stoppedBy = { detail: reason };
  starting.abort();
  stopping.abort();
  const [running, intent] = await Promise.all([
    bringing.catch(() => undefined),
    context.ownApp.stopIntent(signalledAtMs),
  ]);
  await stopGeneration(running?.generation, intent, context);
  // pm2 forgets that it was stopping an app that ends before it was ready: 75 tells it not to restart.
  await app.exit(runner.isReady ? EXIT.done : EXIT.stoppedBeforeLive);
}

/** Ends the runner when its Envoy ends, and an Envoy that hangs, if configured. */
function watchRunning(runner: Runner, { generation, envoy }: RunningGeneration): void {
  const { config, log, exit } = runner.app;
  const killsBefore = outOfMemoryKills();
  void envoy.exited.then(async (ended) => {
    if (runner.isStopping) return;
    const { number } = generation;
    const why = outOfMemorySince(killsBefore);
    log.error(
      ended.serves
        ? `the script that envoy-bin is ${describeExit(ended)}: generation ${number} keeps serving, and the next runner takes over from it`
        : `Envoy ${describeExit(ended)} by itself${why}: generation ${number} is gone`,
    );
    await exit(EXIT.unexpected);
  });
  const watched = { generation, afterMs: config.envoyStuckAfterMs };
  const isDraining = (): boolean => runner.hold.drain() !== undefined;
  const onStuck = (silentForMs: number): void => {
    log.error(
      `Envoy has not answered for ${formatDuration(silentForMs)} (envoy-stuck-after): ending it`,
    );
    signalProcess(envoy.identity, 'SIGKILL');
  };
  void watchStuck({ ...watched, isDraining, onStuck }, runner.stopping.signal);
}

/** Once pm2 is gone: records that the generation is an orphan, and waits for a newer one that serves. */
function leaveToSuccessor(
  { app: { log }, generations, isStopping }: Runner,
  { generation }: RunningGeneration,
  onSuccessor: () => void,
): void {
  if (isStopping) return;
  log.warn('pm2 is gone: Envoy keeps serving until the next runner takes over from it');
  try {
    generations.write({ ...generation, orphaned: true });
  } catch (error) {
    log.warn(`that can't be recorded: ${messageOf(error)}`);
  }
  const watch = setInterval(() => {
    if (successorsOf(generation, generations).some(({ ready }) => ready)) {
      clearInterval(watch);
      onSuccessor();
    }
  }, SUCCESSOR_WATCH_MS);
}

/** Relays its admin address, tells pm2 that it is ready, and takes over from older generations. */
async function putInService(runner: Runner, running: RunningGeneration): Promise<void> {
  const { generations, hold, context, host, runDir, stopping } = runner;
  const { log, channel } = runner.app;
  const { generation } = running;
  runner.relay = await relayAdmin(generation.admin, () => generations.newest()?.adminSocket, log);
  if (runner.isStopping) return;
  const drain = hold.drain();
  if (drain && !drain.result) {
    log.warn(`generation ${generation.number} is drained with the host`);
  }
  // It is over only once this generation is drained too; who began it is who keeps the host out.
  if (drain) void context.hostDrain.drain(drain.startedBy ?? undefined);
  forgetFailedStart(runDir);
  sayReady(runner);
  channel.showMemoryOf(running.envoy.identity.pid);
  const { version = 'unknown', number } = generation;
  channel.showMetrics({ 'envoy version': version, generation: number });
  const isInService = !drain && !generation.failedReload;
  if (isInService) void host.run('start', { goesOn: true });
  await takeOverFromOlder(generation, context, stopping.signal);
}

/**
 * Starts a generation; leaves a drained host as it is, until a start is requested. Undefined: this
 * runner is told to stop.
 */
async function bringUpOrHold(runner: Runner): Promise<RunningGeneration | undefined> {
  const { generations, hold, context, starting, stopping } = runner;
  const { log } = runner.app;
  for (;;) {
    const drain = hold.drain();
    if (!drain) {
      const held = new AbortController();
      const watch = setInterval(() => hold.drain() && held.abort(), HOLD_WATCH_MS);
      try {
        return await bringUp(runner, AbortSignal.any([starting.signal, held.signal]));
      } catch (error) {
        if (stopping.signal.aborted) return undefined;
        if (!held.signal.aborted || starting.signal.aborted) return await adopt(runner, error);
        continue;
      } finally {
        clearInterval(watch);
      }
    }
    log.warn(`the host is ${describeHost(drain)}`);
    const adopted = adoptDrained({ generations, log });
    if (adopted) return adopted;
    sayReady(runner);
    // Its leader may have gone with Envoy.
    if (!drain.result) void context.hostDrain.drain();
    while (hold.drain()) {
      if (stopping.signal.aborted) return undefined;
      await systemClock.sleep(HOLD_WATCH_MS, stopping.signal);
    }
    log.info('the host was brought back: starting Envoy');
  }
}

/** Takes over the generation in service, where there is one; rejects with the reason otherwise. */
async function adopt(runner: Runner, reason: unknown): Promise<RunningGeneration> {
  const { generations, hold, steering, context, starting, runDir } = runner;
  const { log } = runner.app;
  // Without pm2 no one would signal this runner either: the old one does no worse.
  const adopted = runner.hasLostPm2
    ? undefined
    : await adoptGeneration({ generations, hold, log }, reason);
  if (!adopted) {
    if (!starting.signal.aborted) noteFailedStart(runDir, reason);
    throw reason;
  }
  await steering.adopt(adopted.generation);
  // `pm2 reload` then ends with an error: the instance that it waits for is not there any more.
  await context.ownApp.removeReplaced();
  return adopted;
}

function describeHost(drain: DrainRecord): string {
  return drain.result ? describeEnded(drain.result, drain.startedBy) : describeHeld(drain);
}

/** Starts a generation of this runner's own; what is wrong with the configuration comes out here. */
async function bringUp(runner: Runner, signal: AbortSignal): Promise<RunningGeneration> {
  const { problem, generations, hold, runDir, steering } = runner;
  const { config, log } = runner.app;
  if (problem) throw problem;
  const startedMs = systemClock.nowMs();
  generations.prune();
  pruneRecords(hostRecords(runDir));
  migrateAcceptQueues(log);
  const serving = generations.newest();
  const check = async (): Promise<void> => {
    const from = { servingPid: serving?.envoy.pid, stop: signal };
    const { check } = await checkLaunch(config, runDir, from);
    if (check.kind === 'unchecked' && !signal.aborted)
      log.warn(`${check.reason}: its start decides`);
  };
  const binary = findLaunch(config);
  const options = { binary, config, generations, steering, log, hold };
  // With nothing that serves, nothing is lost by a start that fails, nor by waiting. An Envoy that only checks would
  // leave 43 MiB of its program in the cache (decision 0010).
  if (!serving) return startGeneration({ ...options, check, liveLimitMs: LIVE_LIMIT_MS }, signal);
  await check();
  const liveLimitMs = Math.max(1_000, LIVE_LIMIT_MS - (systemClock.nowMs() - startedMs));
  return startGeneration({ ...options, liveLimitMs }, signal);
}

/** Two projects in one run directory would drain each other's Envoy. */
function refuseStrangers(generations: Generations, runDir: string): void {
  const stranger = generations
    .live()
    .find(
      (generation) =>
        isAttended(generation) &&
        generation.supervisor &&
        !sameSupervisor(generation.supervisor, ownSupervisor()),
    );
  if (!stranger?.supervisor) return;
  throw new Pm2EnvoyError(
    'run-dir-unusable',
    `the run directory ${runDir} is in use by another runner (pid ${stranger.runner.pid}, ${describeSupervisor(stranger.supervisor)}): set run-dir to a directory of this project`,
  );
}

/** During a reload pm2 knows the old instance as `_old_N`, and restarts it under this name when it dies. */
function isLeftOver(pmId: string | undefined): boolean {
  return pmId?.startsWith('_old_') === true;
}

function createStopContext(
  { config, log }: App,
  { runDir, generations, host }: { runDir: string; generations: Generations; host: PluginHost },
): Omit<StopContext, 'leaveRelay'> {
  const limitMs = drainLimitMs();
  if (limitMs !== undefined && limitMs < config.drainTimeoutMs) {
    log.warn(
      `pm2's kill_timeout leaves a drain ${limitMs} ms, less than drain-timeout: \`pm2 reload\` the ecosystem file to change it`,
    );
  }
  // The runner drains what it finds in the run directory; admin-address is the manager's.
  const locator = createEnvoyLocator({ config: { adminAddress: undefined }, runDir, log });
  const hostDrain = createHostDrain({ locator, config, host, log, limitMs });
  loadPm2Client();
  const ownApp = openOwnApp({ warn: (message) => log.warn(message) });
  return { config, runDir, generations, hostDrain, host, log, limitMs, ownApp };
}
