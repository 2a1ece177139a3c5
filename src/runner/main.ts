import cluster from 'node:cluster';
import { systemClock } from '../clock.js';
import { createHostDrain } from '../drain/host-drain.js';
import { createEnvoyLocator } from '../drain/locate.js';
import { checkLaunch } from '../envoy/launch.js';
import { describeExit } from '../envoy/process.js';
import type { AdminRelay } from '../envoy/relay.js';
import { Pm2EnvoyError } from '../errors.js';
import { EXIT } from '../exit-codes.js';
import { migrateAcceptQueues } from '../host/accept-queue.js';
import {
  type Generation,
  type Generations,
  isAttended,
  openGenerations,
  successorsOf,
} from '../host/generations.js';
import { prepareRunDir } from '../host/run-dir.js';
import { describeSupervisor, sameSupervisor } from '../host/supervisor.js';
import type { PluginHost } from '../plugins/api/types.js';
import { createDrainHost } from '../plugins/drain-host.js';
import { drainLimitMs, LIVE_LIMIT_MS } from '../pm2/apps.js';
import { type App, boot } from '../pm2/boot.js';
import { openOwnApp } from '../pm2/own-app.js';
import { onStop } from '../pm2/stop-signals.js';
import { ownSupervisor } from '../pm2/supervisor.js';
import { adoptGeneration } from './adopt.js';
import { drainOf, isDrainedWithout } from './drain-meanwhile.js';
import { relayAdmin } from './relay-admin.js';
import { type RunningGeneration, startGeneration } from './start.js';
import { type StopContext, stopGeneration, takeOverFromOlder } from './stop.js';

const SUCCESSOR_WATCH_MS = 1_000;

/** The pm2 app `envoy`: owns one generation, and is what pm2 signals in Envoy's place. */
await boot('envoy', run, { evenMisconfigured: true });

async function run(app: App): Promise<void> {
  const { config, log, channel, exit } = app;
  // Without it a cluster worker exits as soon as the daemon is gone, and Envoy with it undrained.
  if (cluster.worker) cluster.worker.exitedAfterDisconnect = true;
  if (isLeftOver(process.env['pm_id'])) {
    log.warn('a reload replaces this runner, which has ended: there is nothing to start again');
    await exit(EXIT.stoppedBeforeLive);
  }
  const runDir = prepareRunDir(config.runDir);
  const generations = openGenerations(runDir);
  refuseStrangers(generations, runDir);
  const { host, pluginError } = await createHostOrBareOne(app);
  let relay: AdminRelay | undefined;
  const context: StopContext = {
    ...createStopContext(app, { runDir, generations, host }),
    leaveRelay: async () => relay?.close(),
  };
  const starting = new AbortController();
  const stopping = new AbortController();
  let isReady = false;
  let isStopping = false;
  let hasLostPm2 = false;
  app.survivesFaults = () => isStopping;

  const bringing = bringUp(app, {
    problem: app.configError ?? pluginError,
    generations,
    runDir,
    signal: starting.signal,
  }).catch(async (error: unknown) => {
    if (isStopping) return undefined;
    // Without pm2 nobody would signal this runner either: the old one does no worse.
    const adopted = hasLostPm2 ? undefined : adoptGeneration(generations, error, log);
    if (!adopted) throw error;
    // `pm2 reload` then ends with an error: the instance that it waits for is not there any more.
    await context.ownApp.removeReplaced();
    return adopted;
  });
  const stop = async (reason: string): Promise<void> => {
    // Signalled again: never 'hurry up'. pm2-runtime repeats SIGINT after 8.8 s by itself.
    if (isStopping) return;
    isStopping = true;
    const signalledAtMs = Date.now();
    log.info(`${reason}: stopping`);
    starting.abort();
    stopping.abort();
    const [running, intent] = await Promise.all([
      bringing.catch(() => undefined),
      context.ownApp.stopIntent(signalledAtMs),
    ]);
    await stopGeneration(running?.generation, intent, context);
    // pm2 forgets that it was stopping an app that ends before it was ready: 75 tells it not to restart.
    await exit(isReady ? EXIT.done : EXIT.stoppedBeforeLive);
  };
  onStop((reason) => void stop(reason));
  channel.onDisconnect(() => {
    hasLostPm2 = true;
    // Nothing is served yet, and nobody would watch over it.
    starting.abort();
  });

  const running = await bringing;
  if (!running || isStopping) return;
  void running.envoy.exited.then(async (ended) => {
    if (isStopping) return;
    const { number } = running.generation;
    log.error(`Envoy ${describeExit(ended)} by itself: generation ${number} is gone`);
    await exit(EXIT.unexpected);
  });
  const markOrphaned = (): void => {
    if (isStopping) return;
    log.warn('pm2 is gone: Envoy goes on serving until the next runner takes over from it');
    generations.write({ ...running.generation, orphaned: true });
    const watch = setInterval(() => {
      if (successorsOf(running.generation, generations).some(({ ready }) => ready)) {
        clearInterval(watch);
        void stop('a newer generation serves');
      }
    }, SUCCESSOR_WATCH_MS);
  };
  if (hasLostPm2) markOrphaned();
  else channel.onDisconnect(markOrphaned);
  relay = await relayAdmin(app, () => generations.newest()?.adminSocket);
  if (isStopping) return;
  const isDrained = isDrainedWithout(running.generation, generations);
  if (isDrained) {
    const { number } = running.generation;
    log.warn(`a drain began while generation ${number} was starting: draining it as well`);
    void context.hostDrain.drain();
  }
  isReady = true;
  channel.sayReady();
  channel.showMemoryOf(running.envoy.identity.pid);
  const { version = 'unknown', number: generation } = running.generation;
  channel.showMetrics({ 'envoy version': version, generation });
  if (!isDrained && cameIntoService(running.generation)) void host.run('start', { goesOn: true });
  await takeOverFromOlder(running.generation, context, stopping.signal);
}

/** Starts a generation of this runner's own; what is wrong with the configuration comes out here. */
async function bringUp(
  { config, log }: App,
  from: { problem: unknown; generations: Generations; runDir: string; signal: AbortSignal },
): Promise<RunningGeneration> {
  const { problem, generations, runDir, signal } = from;
  if (problem) throw problem;
  const startedMs = systemClock.nowMs();
  generations.prune();
  migrateAcceptQueues(log);
  const binary = await checkLaunch(config, runDir);
  const liveLimitMs = Math.max(1_000, LIVE_LIMIT_MS - (systemClock.nowMs() - startedMs));
  return startGeneration({ binary, config, generations, liveLimitMs, log }, signal);
}

/** Not one that was adopted, nor one of a host that is being drained: that one is out of service by now. */
function cameIntoService(generation: Generation): boolean {
  return !generation.failedReload && drainOf(generation) === undefined;
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
    `the run directory ${runDir} is in use by another runner (pid ${stranger.runner.pid}, ${describeSupervisor(stranger.supervisor)}): set run-dir to a folder of this project's own`,
  );
}

/** A plugin that can't be loaded stops a new generation, but not the drain of the one in service. */
async function createHostOrBareOne({
  config,
  log,
}: App): Promise<{ host: PluginHost; pluginError: unknown }> {
  try {
    return { host: await createDrainHost(config, log), pluginError: undefined };
  } catch (pluginError) {
    return { host: await createDrainHost({ ...config, plugins: [] }, log), pluginError };
  }
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
  return { config, generations, hostDrain, host, log, limitMs, ownApp: openOwnApp() };
}
