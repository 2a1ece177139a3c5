import { createAdminClient } from '../admin/client.js';
import { type Clock, systemClock } from '../clock.js';
import type { Config } from '../config/config.js';
import { createDrainer } from '../drain/drainer.js';
import type { HostDrain } from '../drain/host-drain.js';
import { openGenerationLedger, targetOf } from '../drain/locate.js';
import {
  type Generation,
  type Generations,
  isAttended,
  isRunBy,
  successorsOf,
} from '../envoy/generations.js';
import { terminateEnvoy } from '../envoy/process.js';
import { isAlive, ownIdentity, sameProcess, signalProcess } from '../envoy/process-identity.js';
import type { Log } from '../log.js';
import type { PluginHost } from '../plugins/types.js';

/** What ending generations needs. */
export interface StopContext {
  config: Config;
  generations: Generations;
  hostDrain: HostDrain;
  host: PluginHost;
  log: Log;
  limitMs: number | undefined;
  /** Stops relaying the bootstrap's admin address; the successor does. */
  leaveRelay(): Promise<void>;
  clock?: Clock;
}

const SUCCESSOR_POLL_MS = 200;

/**
 * Ends this runner's generation without cutting what it can save: hands over when a newer generation
 * serves, drains the host otherwise, and then ends Envoy.
 *
 * @param own undefined when this runner's Envoy never became LIVE
 */
export async function stopGeneration(
  own: Generation | undefined,
  context: StopContext,
): Promise<void> {
  if (own && !isRunBy(own, ownIdentity())) {
    context.log.info(`another runner answers for generation ${own.number} now: leaving it alone`);
    await context.leaveRelay();
    return;
  }
  if (own && (await hasLiveSuccessor(own, context))) {
    await Promise.all([context.leaveRelay(), handOver(own, context)]);
    return;
  }
  await context.hostDrain.drain();
  const left = context.generations
    .live()
    .filter((generation) => isOwn(generation) || !isAttended(generation));
  await Promise.all(left.map((generation) => end(generation, context)));
  await context.host.settled();
}

/**
 * Closes an older generation's listeners, waits for its connections, ends it. The host stays in
 * service: its health is not touched.
 */
export async function handOver(generation: Generation, context: StopContext): Promise<void> {
  const { config, host, log, limitMs } = context;
  log.info(`handing over from generation ${generation.number}`);
  const admin = createAdminClient({ kind: 'unix', path: generation.adminSocket });
  // Ending Envoy under a drain of the host that waits for it would make that one 'envoy-gone'.
  const shutdown = openGenerationLedger(generation, 'shutdown', log).read();
  const command = shutdown && !shutdown.result ? 'shutdown' : 'handover';
  const drainer = createDrainer({
    command,
    targets: [targetOf(generation, admin)],
    ledger: openGenerationLedger(generation, command, log),
    config,
    host,
    log,
    limitMs,
  });
  await drainer.drain();
  admin.close();
  await end(generation, context);
  await host.settled();
}

/**
 * Takes care of the generations that an earlier runner left: one whose runner still lives, but has
 * lost pm2, is told to stop and hands over by itself; from the others this runner hands over.
 */
export async function handOverFromOrphans(own: Generation, context: StopContext): Promise<void> {
  const orphans = context.generations
    .live()
    .filter((generation) => generation.number < own.number && !isAttended(generation));
  await Promise.all(
    orphans.map(async (orphan) => {
      const { number, runner } = orphan;
      if (isAlive(runner)) {
        context.log.info(
          `generation ${number}'s runner (pid ${runner.pid}) has lost pm2: telling it to stop`,
        );
        signalProcess(runner, 'SIGTERM');
      } else {
        await handOver(orphan, context);
      }
    }),
  );
}

/** Waits while a newer generation is still starting: its runner either brings it up or gives up. */
async function hasLiveSuccessor(own: Generation, context: StopContext): Promise<boolean> {
  const { generations, log, clock = systemClock } = context;
  let said = false;
  for (;;) {
    const newer = successorsOf(own, generations);
    if (newer.some(({ ready }) => ready)) return true;
    if (newer.length === 0) return false;
    if (!said) log.info('a newer generation is starting: serving until it is LIVE');
    said = true;
    await clock.sleep(SUCCESSOR_POLL_MS);
  }
}

function isOwn(generation: Generation): boolean {
  return sameProcess(generation.runner, ownIdentity());
}

async function end(generation: Generation, { log }: StopContext): Promise<void> {
  const { number, envoy } = generation;
  const gone = await terminateEnvoy(envoy);
  if (gone) log.info(`generation ${number} has ended`);
  else log.error(`generation ${number} (pid ${envoy.pid}) can't be ended, not even by SIGKILL`);
}
