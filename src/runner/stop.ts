import { createAdminClient } from '../admin/client.js';
import { type Clock, systemClock, until } from '../clock.js';
import type { Config } from '../config/config.js';
import { createDrainer } from '../drain/drainer.js';
import type { HostDrain } from '../drain/host-drain.js';
import { appliesTo } from '../drain/host-now.js';
import { openHandoverLedger, openHostLedger, targetOf } from '../drain/locate.js';
import { terminateEnvoy } from '../envoy/process.js';
import { messageOf } from '../errors.js';
import {
  type Generation,
  type Generations,
  isAttended,
  isLost,
  isRunBy,
  newestOf,
  predecessorsOf,
  successorsOf,
} from '../host/generations.js';
import { isAlive, ownIdentity, sameProcess, signalProcess } from '../host/process-identity.js';
import { type Log, silentLog } from '../log.js';
import type { PluginHost } from '../plugins/api/types.js';
import { LISTEN_TIMEOUT_MS } from '../pm2/apps.js';
import type { OwnApp, StopIntent } from '../pm2/own-app.js';
import { udpHandover } from '../steering/layout.js';
import { followOutput } from './adopt.js';
import { servesElsewhere } from './elsewhere.js';

/** What ending generations needs. */
export interface StopContext {
  config: Config;
  runDir: string;
  generations: Generations;
  hostDrain: HostDrain;
  host: PluginHost;
  log: Log;
  limitMs: number | undefined;
  ownApp: OwnApp;
  /** What told this runner to stop, for the drain's record. */
  stoppedBy?: () => { detail?: string };
  /** Stops relaying the bootstrap's admin address; the successor does. */
  leaveRelay(): Promise<void>;
  clock?: Clock;
}

const SUCCESSOR_POLL_MS = 200;
/** How long a reloaded runner waits for a successor that has died: pm2 starts it again with back-off. */
const NO_SUCCESSOR_LIMIT_MS = 15_000;
const OLDER_POLL_MS = 500;
/** How long an older runner gets for ending its Envoy, once the host is drained. */
const OLDER_END_LIMIT_MS = 5_000;

/**
 * Ends this runner's generation without cutting what it can save: hands over when a newer generation
 * serves, leaves Envoy to the next runner when pm2 restarts this one, drains the host otherwise and
 * then ends Envoy.
 *
 * @param own undefined when this runner's Envoy never became LIVE
 */
export async function stopGeneration(
  own: Generation | undefined,
  intent: StopIntent,
  context: StopContext,
): Promise<void> {
  const { generations, log } = context;
  if (own && isLost(own)) {
    log.error(
      `the run directory of generation ${own.number} was removed (${own.directory}): its Envoy can't be drained, and its open connections are cut; choose a run-dir that lasts`,
    );
    await Promise.all([context.leaveRelay(), end(own, context)]);
    return;
  }
  if (own && !isRunBy(own, ownIdentity())) {
    log.info(`another runner is responsible for generation ${own.number} now: leaving it alone`);
    await context.leaveRelay();
    return;
  }
  if (intent === 'restart') {
    const serves = generations.newest();
    if (serves)
      log.info(`pm2 restarts this app: generation ${serves.number} keeps running meanwhile`);
    if (own) writeLeft(own, context);
    await context.leaveRelay();
    return;
  }
  if (!own && intent === 'reload') {
    log.info('pm2 has replaced this runner: leaving the host to the new one');
    await context.leaveRelay();
    return;
  }
  const successor = own ? await findSuccessor(own, intent, context) : 'none';
  if (own && successor === 'serves') {
    await Promise.all([context.leaveRelay(), handOver(own, context)]);
    return;
  }
  if (own && successor === 'missing') {
    log.error(
      `pm2 reloads, but there is no newer generation: generation ${own.number} keeps serving without a runner; fix the app and start it again`,
    );
    await context.leaveRelay();
    return;
  }
  await drainAndEnd(own, context);
}

/** For the manager: pm2 may end the next runner before that has heard of a signal. */
function writeLeft(own: Generation, { generations, log }: StopContext): void {
  try {
    generations.write({ ...own, leftAt: new Date().toISOString() });
  } catch (error) {
    log.warn(`that can't be written down: ${messageOf(error)}`);
  }
}

/** Drains the host and ends every generation: those without a runner too, and an older runner's. */
async function drainAndEnd(own: Generation | undefined, context: StopContext): Promise<void> {
  const { generations, hostDrain, host } = context;
  const { outcome } = await hostDrain.drainForGood({ kind: 'stop', ...context.stoppedBy?.() });
  // The app was started meanwhile, and a newer generation serves.
  if (outcome === 'cancelled' && own) return handOver(own, context);
  const live = generations.live();
  const left = live.filter(isLeft);
  const limit = own?.number ?? Number.POSITIVE_INFINITY;
  const older = live.filter((one) => !isLeft(one) && one.number < limit);
  await Promise.all([...left.map((one) => end(one, context)), endOlder(older, context)]);
  await host.settled();
}

/**
 * Ends the older generations of a reload that is called off; pm2 itself would tell their runner only
 * when listen_timeout is over.
 */
async function endOlder(older: readonly Generation[], context: StopContext): Promise<void> {
  if (older.length === 0) return;
  const areGone = (): true | undefined =>
    older.some(({ envoy }) => isAlive(envoy)) ? undefined : true;
  // pm2 answers once the old runner has ended, which takes as long as its own hand-over.
  void context.ownApp.removeReplaced();
  for (const { runner } of older) signalProcess(runner, 'SIGTERM');
  if (await until(areGone, { everyMs: 50, limitMs: OLDER_END_LIMIT_MS }, context.clock)) return;
  await Promise.all(older.map((generation) => end(generation, context)));
}

/**
 * Closes an older generation's listeners, waits for its connections, ends it. The host stays in
 * service: its health is not touched.
 */
export async function handOver(generation: Generation, context: StopContext): Promise<void> {
  const { config, generations, host, log, limitMs } = context;
  log.info(`handing over from generation ${generation.number}`);
  const admin = createAdminClient({ kind: 'unix', path: generation.adminSocket });
  // Ending Envoy under a drain of the host that waits for it would make that one 'envoy-gone'.
  if (isHostDraining(generations, context)) {
    const { outcome } = await context.hostDrain.drain();
    admin.close();
    // It was cancelled under way: the hand-over has still to be done.
    if (outcome === 'cancelled') return handOver(generation, context);
    return end(generation, context);
  }
  const drainer = createDrainer({
    command: 'handover',
    targets: [
      { ...targetOf(generation, admin), ...udpHandover(generation, context.generations.newest()) },
    ],
    ledger: openHandoverLedger(generation, log),
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
 * Sees to it that the older generations end: one whose runner lives, but has lost pm2, is told to
 * stop and hands over by itself; from one without a runner this runner hands over, also when that
 * runner dies in the middle of its own hand-over. Resolves when none is left.
 */
export async function takeOverFromOlder(
  own: Generation,
  context: StopContext,
  signal: AbortSignal,
): Promise<void> {
  const { generations, log, clock = systemClock } = context;
  const begun = new Set<string>();
  const once = (what: string, act: () => void): void => {
    if (!begun.has(what)) act();
    begun.add(what);
  };
  for (;;) {
    const older = predecessorsOf(own, generations);
    if (older.length === 0 || signal.aborted) return;
    for (const orphan of older.filter((generation) => !isAttended(generation))) {
      const { number, runner } = orphan;
      if (isAlive(runner)) {
        once(`stop ${runner.pid}`, () => {
          log.info(
            `generation ${number}'s runner (pid ${runner.pid}) has lost pm2: telling it to stop`,
          );
          signalProcess(runner, 'SIGTERM');
        });
      } else {
        once(`take over ${number}`, () => {
          followOutput(orphan, log);
          void handOver(orphan, context);
        });
      }
    }
    await clock.sleep(OLDER_POLL_MS, signal);
  }
}

/**
 * Waits while a newer generation is starting, or may still be: its runner either brings it up or
 * gives up. `missing`: pm2 reloads, and no newer one comes.
 */
async function findSuccessor(
  own: Generation,
  intent: StopIntent,
  context: StopContext,
): Promise<'serves' | 'none' | 'missing'> {
  const { generations, log, ownApp, clock = systemClock } = context;
  const isReload = intent === 'reload';
  const startMs = clock.nowMs();
  let said = false;
  for (;;) {
    const newer = successorsOf(own, generations);
    if (newer.some(({ ready }) => ready)) return 'serves';
    const isStarting = newer.length > 0;
    if (!isStarting) {
      const replacement = isReload ? await ownApp.replacement() : undefined;
      if (replacement && servesElsewhere(replacement)) return 'serves';
      if (!replacement || !(await ownApp.isWanted())) return 'none';
    }
    const limitMs = isStarting ? LISTEN_TIMEOUT_MS : NO_SUCCESSOR_LIMIT_MS;
    if (clock.nowMs() - startMs > limitMs) return isReload ? 'missing' : 'none';
    if (!said) log.info('a newer generation is starting: serving until it is LIVE');
    said = true;
    await clock.sleep(SUCCESSOR_POLL_MS);
  }
}

/** Whether a drain is under way that takes the newest generation out of service, too. */
function isHostDraining(generations: Generations, { runDir }: StopContext): boolean {
  const live = generations.live();
  const serving = newestOf(live);
  const drain = openHostLedger({ runDir, live, log: silentLog }).read();
  return drain !== undefined && !drain.result && serving !== undefined && appliesTo(drain, serving);
}

function isOwn(generation: Generation): boolean {
  return sameProcess(generation.runner, ownIdentity());
}

/** No one but this runner ends it. */
function isLeft(generation: Generation): boolean {
  return isOwn(generation) || !isAttended(generation);
}

async function end(generation: Generation, { log }: StopContext): Promise<void> {
  const { number, envoy } = generation;
  const gone = await terminateEnvoy(envoy);
  if (gone) log.info(`generation ${number} has ended`);
  else log.error(`generation ${number} (pid ${envoy.pid}) can't be killed, not even with SIGKILL`);
}
