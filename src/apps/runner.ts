import cluster from 'node:cluster';
import { createHostDrain } from '../drain/host-drain.js';
import { createEnvoyLocator } from '../drain/locate.js';
import { readBootstrapAdmin } from '../envoy/bootstrap.js';
import { type Generation, openGenerations } from '../envoy/generations.js';
import { describeExit } from '../envoy/process.js';
import { type AdminRelay, startAdminRelay } from '../envoy/relay.js';
import { prepareRunDir } from '../envoy/run-dir.js';
import { messageOf } from '../errors.js';
import { EXIT } from '../exit-codes.js';
import { drainLimitMs, LIVE_LIMIT_MS } from '../pm2/apps.js';
import { checkLaunch, startGeneration } from '../runner/start.js';
import { handOverFromOrphans, type StopContext, stopGeneration } from '../runner/stop.js';
import { type App, boot, createDrainHost } from './boot.js';

/** The pm2 app `envoy`: owns one generation, and is what pm2 signals in Envoy's place. */
await boot('envoy', async (app) => {
  const { config, log, channel, exit } = app;
  // Without it a cluster worker exits as soon as the daemon is gone, and Envoy with it undrained.
  if (cluster.worker) cluster.worker.exitedAfterDisconnect = true;

  const runDir = prepareRunDir(config.runDir);
  let relay: AdminRelay | undefined;
  const context: StopContext = {
    ...(await createStopContext(app, runDir)),
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

  generations.prune();
  const binary = await checkLaunch(config, runDir);
  const launch = { binary, config, generations, liveLimitMs: LIVE_LIMIT_MS, log };
  const running = await startGeneration(launch, starting.signal).catch((error: unknown) => {
    if (stopping) return undefined;
    throw error;
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
});

async function createStopContext(
  { config, log }: App,
  runDir: string,
): Promise<Omit<StopContext, 'leaveRelay'>> {
  const host = await createDrainHost(config, log);
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
