import cluster from 'node:cluster';
import { createHostDrain } from '../drain/host-drain.js';
import { createEnvoyLocator } from '../drain/locate.js';
import { readBootstrapAdmin } from '../envoy/bootstrap.js';
import { type Generation, type Generations, openGenerations } from '../envoy/generations.js';
import { describeExit } from '../envoy/process.js';
import { type AdminRelay, startAdminRelay } from '../envoy/relay.js';
import { prepareRunDir } from '../envoy/run-dir.js';
import { messageOf } from '../errors.js';
import { EXIT } from '../exit-codes.js';
import type { PluginHost } from '../plugins/types.js';
import { drainLimitMs, LIVE_LIMIT_MS } from '../pm2/apps.js';
import { adoptGeneration } from '../runner/adopt.js';
import { checkLaunch, type RunningGeneration, startGeneration } from '../runner/start.js';
import { handOverFromOrphans, type StopContext, stopGeneration } from '../runner/stop.js';
import { type App, boot, createDrainHost } from './boot.js';

/** The pm2 app `envoy`: owns one generation, and is what pm2 signals in Envoy's place. */
await boot(
  'envoy',
  async (app) => {
    const { config, log, channel, exit } = app;
    // Without it a cluster worker exits as soon as the daemon is gone, and Envoy with it undrained.
    if (cluster.worker) cluster.worker.exitedAfterDisconnect = true;

    if (isLeftOver(process.env['pm_id'])) {
      log.warn('a reload has replaced this runner: waiting for pm2 to end it, without an Envoy');
      for (const signal of ['SIGTERM', 'SIGINT'] as const)
        process.on(signal, () => exit(EXIT.done));
      channel.sayReady();
      return;
    }
    const runDir = prepareRunDir(config.runDir);
    const { host, pluginError } = await createHostOrBareOne(app);
    let relay: AdminRelay | undefined;
    const context: StopContext = {
      ...createStopContext(app, { runDir, host }),
      leaveRelay: async () => relay?.close(),
    };
    const { generations } = context;
    const starting = new AbortController();
    let own: Generation | undefined;
    let stopping: Promise<void> | undefined;

    const stop = (reason: string): void => {
      // Signalled again: never 'hurry up'. pm2-runtime repeats SIGINT after 8.8 s by itself.
      if (stopping) return;
      log.info(`${reason}: stopping`);
      starting.abort();
      stopping = stopGeneration(own, context).then(async () => {
        await exit(own ? EXIT.done : EXIT.stoppedBeforeLive);
      });
    };
    process.on('SIGTERM', () => stop('SIGTERM'));
    process.on('SIGINT', () => stop('SIGINT'));
    channel.onShutdown(() => stop('pm2 said shutdown'));
    channel.onDisconnect(() => {
      if (stopping || !own) return;
      log.warn('pm2 is gone: Envoy goes on serving, the next runner will take over from it');
      generations.write({ ...own, orphaned: true });
    });

    const running = await bringUp(app, {
      problem: app.configError ?? pluginError,
      generations,
      runDir,
      signal: starting.signal,
    }).catch((error: unknown) => {
      if (stopping) return undefined;
      const adopted = adoptGeneration(generations, log);
      if (!adopted) throw error;
      for (const line of messageOf(error).split('\n')) log.error(line);
      return adopted;
    });
    if (!running) return;
    own = running.generation;

    void running.envoy.exited.then(async (ended) => {
      if (stopping) return;
      log.error(
        `Envoy ${describeExit(ended)} by itself: generation ${running.generation.number} is gone`,
      );
      await exit(EXIT.unexpected);
    });
    relay = await relayAdmin(app, () => generations.newest()?.adminSocket);
    channel.sayReady();
    channel.showMemoryOf(running.envoy.identity.pid);
    await handOverFromOrphans(running.generation, context);
  },
  { evenMisconfigured: true },
);

/** Starts a generation of this runner's own; what is wrong with the configuration comes out here. */
async function bringUp(
  { config, log }: App,
  from: { problem: unknown; generations: Generations; runDir: string; signal: AbortSignal },
): Promise<RunningGeneration> {
  const { problem, generations, runDir, signal } = from;
  if (problem) throw problem;
  generations.prune();
  const binary = await checkLaunch(config, runDir);
  return startGeneration({ binary, config, generations, liveLimitMs: LIVE_LIMIT_MS, log }, signal);
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
  { runDir, host }: { runDir: string; host: PluginHost },
): Omit<StopContext, 'leaveRelay'> {
  const limitMs = drainLimitMs();
  if (limitMs !== undefined && limitMs < config.drainTimeoutMs) {
    log.warn(
      `pm2's kill_timeout leaves a drain ${limitMs} ms, less than drain-timeout: start the ecosystem file anew to change it`,
    );
  }
  // The runner drains what it finds in the run directory; admin-address is the manager's.
  const locator = createEnvoyLocator({ config: { adminAddress: undefined }, runDir, log });
  const hostDrain = createHostDrain({ locator, config, host, log, limitMs });
  return { config, generations: openGenerations(runDir), hostDrain, host, log, limitMs };
}

async function relayAdmin(
  { config, log }: App,
  newestSocket: () => string | undefined,
): Promise<AdminRelay | undefined> {
  const admin = readBootstrapAdmin(config.envoyConfig);
  if (!admin || ('port' in admin && admin.port === 0)) return undefined;
  const shown = 'path' in admin ? admin.path : `${admin.host}:${admin.port}`;
  try {
    const relay = await startAdminRelay(admin, newestSocket);
    log.debug(`relaying the bootstrap's admin address ${shown}`);
    return relay;
  } catch (error) {
    log.warn(`the bootstrap's admin address ${shown} can't be relayed: ${messageOf(error)}`);
    return undefined;
  }
}
