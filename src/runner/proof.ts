import { type AdminClient, createAdminClient } from '../admin/client.js';
import { type Clock, until } from '../clock.js';
import { createCounters } from '../drain/count.js';
import { openHandoverLedger } from '../drain/locate.js';
import { terminateEnvoy } from '../envoy/process.js';
import { describeGap, type Gap, gapsOf, type Serving, subscriptionGaps } from '../envoy/proof.js';
import { askSubscriptions, readServing } from '../envoy/serving.js';
import { isPm2EnvoyError, messageOf, Pm2EnvoyError } from '../errors.js';
import { areRemovalsAccepted } from '../host/acceptance.js';
import type { Generation, Generations } from '../host/generations.js';
import { identify, isAlive } from '../host/process-identity.js';
import { type Log, silentLog } from '../log.js';

/** How long a LIVE generation gets for listeners that it lacks: LDS may come a moment later. */
const PROOF_LIMIT_MS = 3_000;
const PROOF_POLL_MS = 200;
/** Below Envoy's default of 15 s for `initial_fetch_timeout`: what can't be reached by then won't come. */
const FORESEE_MS = 12_000;
/** Most Envoys are LIVE before the first look. */
const FORESEE_POLL_MS = 500;
/** Of the time between two looks, Envoy answers for one part in so many. */
const FORESEE_SHARE = 20;
const ASK_LIMIT_MS = 5_000;
/** How long the connections of a generation that is given up get: it has served for a moment. */
const RETIRE_LIMIT_MS = 10_000;

/** The generation that a new one is to take over from: it has been LIVE, and no one hands over from it. */
export function generationInService(generations: Generations): Generation | undefined {
  return generations
    .live()
    .findLast((one) => one.ready && openHandoverLedger(one, silentLog).read() === undefined);
}

/**
 * Ends generations that never took over from the one in service, and whose runner has died: by themselves
 * they would be LIVE one day, and answer with a configuration that no one has compared.
 */
export async function endAbandoned(
  before: Generation,
  { generations, log, clock }: { generations: Generations; log: Log; clock: Clock },
): Promise<void> {
  const abandoned = generations
    .live()
    .filter((one) => one.number > before.number && !one.ready && !isAlive(one.runner));
  await Promise.all(
    abandoned.map(async ({ number, envoy, adminSocket }) => {
      log.warn(`generation ${number} never took over, and its runner has died: ending it`);
      const admin = createAdminClient({ kind: 'unix', path: adminSocket }, ASK_LIMIT_MS);
      const state = await admin.state().catch(() => undefined);
      if (state === 'LIVE') await retire({ number, pid: () => envoy.pid, admin }, clock);
      admin.close();
      await terminateEnvoy(envoy);
    }),
  );
}

/** What a new generation must show before it takes over. */
export interface Proof {
  /**
   * Gives up on a generation that is not LIVE yet, where what came is rejected, or can't be reached for long,
   * and the one in service has it: with Envoy's own `initial_fetch_timeout` (15 s) it would be LIVE a moment
   * later, and answer wrongly until it is ended.
   *
   * @param waitedMs how long it has been starting
   * @throws Pm2EnvoyError `generation-incomplete`
   */
  foresee(candidate: Omit<Candidate, 'pid'>, waitedMs: number): Promise<void>;
  /**
   * Waits until a LIVE generation serves what the one in service serves: its listeners, and whatever it
   * receives from elsewhere (LDS, CDS, RDS, SDS). The first one of a host has nothing to be compared with:
   * what it lacks is logged.
   *
   * @throws Pm2EnvoyError `generation-incomplete`, which names what is missing; its listeners are closed then
   */
  pass(candidate: Candidate, signal: AbortSignal): Promise<void>;
}

/** A LIVE generation that is to take over. */
export interface Candidate {
  number: number;
  /** Found out late: the first thing to be known is what it has received. */
  pid: () => number;
  admin: AdminClient;
  /** What its Envoy complained of last. */
  complaint: () => string | undefined;
}

/**
 * Asks the generation in service what it serves, before a new one is started: what is wrong with that one is
 * then seen the moment it is LIVE.
 */
export async function prepareProof(
  before: Generation | undefined,
  { log, clock }: { log: Log; clock: Clock },
): Promise<Proof> {
  const served = before && (await askOld(before, log));
  let lookAtMs = FORESEE_POLL_MS;
  return {
    foresee: async ({ number, admin, complaint }, waitedMs) => {
      if (!before || !served || waitedMs < lookAtMs) return;
      const startedMs = clock.nowMs();
      const subscriptions = await askSubscriptions(admin).catch(() => undefined);
      const tookMs = clock.nowMs() - startedMs;
      lookAtMs = waitedMs + tookMs + Math.max(FORESEE_POLL_MS, tookMs * FORESEE_SHARE);
      if (!subscriptions) return;
      const isLate = waitedMs >= FORESEE_MS;
      const gaps = subscriptionGaps({ subscriptions }, served).filter(
        ({ what, mayCome, kind }) =>
          kind === 'fault' && !mayCome && hasFailed(what, { subscriptions, isLate }),
      );
      if (gaps.length > 0) throw incomplete(number, before, { gaps, said: complaint() });
    },
    pass: async (candidate, signal) => {
      try {
        if (before && served) await compare(candidate, { before, served, log, clock }, signal);
        else warnOf(candidate, gapsOf(await lookAt(candidate, false), undefined), log);
      } catch (error) {
        // Where admin.allow_paths forbids to ask, or nothing is in service, what it has must do.
        if (before && served && !isPm2EnvoyError(error, 'admin-refused')) throw error;
        log.warn(`generation ${candidate.number} does not say what it serves: ${messageOf(error)}`);
      }
    },
  };
}

/** Waits until nothing is missing, or fails. */
async function compare(
  candidate: Candidate,
  old: { before: Generation; served: Serving; log: Log; clock: Clock },
  signal: AbortSignal,
): Promise<void> {
  const { before, log, clock } = old;
  const { number, admin } = candidate;
  const deadlineMs = clock.nowMs() + PROOF_LIMIT_MS;
  const open = (gaps: readonly Gap[]): Gap[] => gaps.filter((gap) => !isAccepted(gap, before));
  const failure = (gaps: readonly Gap[]): Pm2EnvoyError =>
    incomplete(number, before, { gaps, said: candidate.complaint() });
  // Without routes, clusters or secrets it answers wrongly: each millisecond counts.
  const received = { subscriptions: await askSubscriptions(admin) };
  const wrong = open(subscriptionGaps(received, old.served)).filter(({ mayCome }) => !mayCome);
  if (wrong.length > 0) {
    const emptied = retire(candidate, clock);
    const look = await lookAt(candidate).catch(() => undefined);
    await emptied;
    // Its sockets are closed by now.
    throw failure(look ? open(gapsOf({ ...look, bound: undefined }, old.served)) : wrong);
  }
  for (let served: Serving | undefined = old.served; served; ) {
    const gaps = gapsOf(await lookAt(candidate), served);
    const left = open(gaps);
    if (left.length === 0) return warnOf(candidate, gaps, log);
    const isLate = signal.aborted || clock.nowMs() >= deadlineMs;
    if (isLate || left.some(({ mayCome }) => !mayCome)) {
      await retire(candidate, clock);
      throw failure(left);
    }
    await clock.sleep(PROOF_POLL_MS, signal);
    served = await askOld(before, log);
  }
}

function warnOf({ number }: Candidate, gaps: readonly Gap[], log: Log): void {
  for (const gap of gaps) log.warn(`generation ${number} lacks ${describeGap(gap)}`);
}

/** Not only that nothing has come so far. A source that can't be reached may be there a moment later. */
function hasFailed(
  what: string,
  { subscriptions, isLate }: { subscriptions: Serving['subscriptions']; isLate: boolean },
): boolean {
  return [...subscriptions.values()].some(
    (one) => one.what === what && (one.rejected > 0 || (isLate && one.failed > 0)),
  );
}

async function lookAt(
  { admin, pid }: Pick<Candidate, 'admin' | 'pid'>,
  isCompared = true,
): Promise<Serving> {
  return readServing(admin, { pid: pid(), isCompared });
}

/** One that does not answer can't be compared with, and is better replaced. */
async function askOld(
  { number, envoy, adminSocket }: Generation,
  log: Log,
): Promise<Serving | undefined> {
  const admin = createAdminClient({ kind: 'unix', path: adminSocket }, ASK_LIMIT_MS);
  try {
    return await lookAt({ admin, pid: () => envoy.pid });
  } catch (error) {
    const what = isAlive(envoy) ? `does not say what it serves: ${messageOf(error)}` : 'has ended';
    log.warn(`generation ${number} ${what}; the new one is not compared with it`);
    return undefined;
  } finally {
    admin.close();
  }
}

/** Takes no new connection any more, and lets those end that it has got. */
async function retire(
  { number, admin, pid }: Pick<Candidate, 'number' | 'admin' | 'pid'>,
  clock: Clock,
): Promise<void> {
  try {
    await admin.closeListeners();
    await admin.failHealthCheck();
    const target = { name: `generation ${number}`, admin, process: identify(pid()) };
    const counter = createCounters({ ignoreListeners: [], clock }).of(target);
    const isEmpty = async (): Promise<true | undefined> => {
      const counted = await counter.count();
      return counted.kind === 'known' && counted.count.open === 0 ? true : undefined;
    };
    await until(isEmpty, { everyMs: 100, limitMs: RETIRE_LIMIT_MS }, clock);
  } catch {
    // It is ended all the same.
  }
}

function isAccepted({ kind }: Gap, before: Generation | undefined): boolean {
  if (kind === 'removed') return before !== undefined && areRemovalsAccepted(before);
  return kind === 'explained';
}

function incomplete(
  number: number,
  before: Generation,
  { gaps, said }: { gaps: readonly Gap[]; said: string | undefined },
): Pm2EnvoyError {
  const parts = [
    `generation ${number} lacks what generation ${before.number} serves: ${gaps.map(describeGap).join('; ')}`,
    ...(said ? [`Envoy said: ${said}`] : []),
    ...(gaps.every(({ kind }) => kind === 'removed')
      ? ['if that is on purpose: `pm2-envoy redeploy --yes`']
      : []),
  ];
  return new Pm2EnvoyError('generation-incomplete', parts.join('; '));
}
