import { createAdminClient } from '../../admin/client.js';
import { type Clock, systemClock } from '../../clock.js';
import { killTimeoutMs } from '../../config/grace-period.js';
import { createCounters, type EnvoyCounter } from '../../drain/count.js';
import { appliesTo, describeHeld, isAbout } from '../../drain/host-now.js';
import { openHandoverLedger, openHostLedger, targetOf } from '../../drain/locate.js';
import type { DrainRecord } from '../../drain/record.js';
import { type DrainResult, describeEnded } from '../../drain/state.js';
import { freePort, portInUse } from '../../envoy/port-in-use.js';
import { messageOf } from '../../errors.js';
import { readFailedStart } from '../../host/failed-start.js';
import { type Generation, openGenerations } from '../../host/generations.js';
import { isAlive } from '../../host/process-identity.js';
import { silentLog } from '../../log.js';
import { LISTEN_TIMEOUT_MS } from '../../pm2/apps.js';
import { type RedeployPlan, reloadUnderWay } from './plan.js';

/** How a redeploy ended. */
export type RedeployResult = {
  from: Served | null;
  tookMs: number;
} & (
  | {
      /**
       * `timeout`: drain-timeout was over before the old generation was empty. `admin-unreachable`: no one
       * knows whether it was, or the new one does not answer.
       */
      outcome: 'redeployed' | 'timeout' | 'admin-unreachable';
      to: Served;
      /** How the old generation's hand-over ended; null when there was none, or it is not known. */
      handover: DrainResult | null;
      /** Why the new generation does not answer at the end; null: it does. */
      silent: string | null;
    }
  | {
      outcome: 'failed';
      reason: string;
      /** Of the error that the new generation ended with; null: it is not known. */
      code: string | null;
      serves: Served | null;
      /** The host is being drained, so it is not known yet what will serve. */
      isBeingDrained: boolean;
      /** Variables that pm2 has taken all the same, for the next start of the app. */
      keeps: Readonly<Record<string, string>>;
    }
);

/** A generation in a few words. */
export interface Served {
  generation: number;
  version: string | null;
  pid: number;
}

/** Where a reload is. */
export type RedeployProgress =
  | { step: 'starting' }
  | { step: 'live'; generation: Generation }
  | { step: 'handing-over'; from: Generation; connections: number | null; timeLeftMs: number };

const LOOK_MS = 250;
const OLDEST_COUNT_MS = 5_000;
const ANSWER_LIMIT_MS = 5_000;

/**
 * Makes pm2 reload the app and follows it to its end in the run directory. Never rejects: a reload that
 * fails leaves the old generation serving, and the result says why.
 */
export async function runReload(
  plan: RedeployPlan,
  onProgress: (progress: RedeployProgress) => void,
  clock: Clock = systemClock,
): Promise<RedeployResult> {
  const { app, config, from } = plan;
  const generations = openGenerations(app.runDir);
  const startedAtMs = Date.now();
  const startMs = clock.nowMs();
  const limitMs = LISTEN_TIMEOUT_MS + killTimeoutMs(config);
  const latest = generations.live().at(-1)?.number ?? 0;
  const isNew = ({ number }: Generation): boolean => number > latest;
  let refusal: string | undefined;
  let isOver = false;
  let liveIsSaid = false;
  const admin = from && createAdminClient({ kind: 'unix', path: from.adminSocket }, LOOK_MS * 4);
  const counter = from && admin && createCounters(config).of(targetOf(from, admin));
  const reload = reloadWhenFree(plan, limitMs, clock)
    .catch((error: unknown) => {
      refusal = messageOf(error);
    })
    .finally(() => {
      isOver = true;
    });
  onProgress({ step: 'starting' });
  while (!isOver) {
    const live = generations.live().findLast((one) => isNew(one) && one.ready);
    if (live && !liveIsSaid) onProgress({ step: 'live', generation: live });
    liveIsSaid = live !== undefined;
    const handover = live && from && counter && (await lookAtHandover(from, counter, clock));
    if (handover) onProgress(handover);
    await Promise.race([reload, clock.sleep(LOOK_MS)]);
  }
  admin?.close();

  const shared = { from: from ? servedOf(from) : null, tookMs: clock.nowMs() - startMs };
  const serving = generations.newest();
  const drain = serving && drainSince(app.runDir, serving, startedAtMs);
  const isStopped = serving ? drain !== undefined : from !== undefined;
  if (serving?.ready && isNew(serving) && !refusal && !isStopped) {
    const handover = from ? resultOf(app.runDir, from) : null;
    const silent = await whySilent(serving);
    const outcome = silent === null ? outcomeOf(handover) : 'admin-unreachable';
    return { ...shared, outcome, to: servedOf(serving), handover, silent };
  }
  const failure = failureOf({ plan, serving, refusal, isStopped, drain, startedAtMs });
  const serves = serving?.ready && !isStopped ? servedOf(serving) : null;
  const isBeingDrained = drain !== undefined && !drain.result;
  const now = { serves, isBeingDrained };
  return { ...shared, outcome: 'failed', ...failure, ...now, keeps: await keptVariables(plan) };
}

/** pm2's words in the moment in which it starts a crashed app again by itself (its lib/God/ActionMethods.js). */
const IS_STARTING = /already (exists|started|online)$/;
const FREE_LIMIT_MS = 20_000;

/** As `pm2 reload`; one that meets pm2's own restart of the app is tried again, for a while. */
async function reloadWhenFree(
  { app, env }: RedeployPlan,
  limitMs: number,
  clock: Clock,
): Promise<void> {
  const endMs = clock.nowMs() + FREE_LIMIT_MS;
  for (;;) {
    try {
      return await app.daemon.reload(Number(app.process.pmId), env, limitMs);
    } catch (error) {
      if (!IS_STARTING.test(messageOf(error)) || clock.nowMs() > endMs) throw error;
      await clock.sleep(LOOK_MS);
    }
  }
}

/** The generations that a redeploy leaves beside the newest, such as one that an earlier restart left. */
export function leftBeside(runDir: string): Generation[] {
  return openGenerations(runDir).live().slice(0, -1);
}

async function lookAtHandover(
  from: Generation,
  counter: EnvoyCounter,
  clock: Clock,
): Promise<RedeployProgress | undefined> {
  const record = openHandoverLedger(from, silentLog).read();
  if (!record || record.result || !isAlive(from.envoy)) return undefined;
  const connections = await counter.glance({ oldestMs: OLDEST_COUNT_MS }).then(
    (counted) => (counted.kind === 'known' ? counted.count.open : null),
    () => null,
  );
  const timeLeftMs = Math.max(0, record.deadlineMs - clock.nowMs());
  return { step: 'handing-over', from, connections, timeLeftMs };
}

/** A stop or a drain in the middle of a reload takes the new generation along. */
function drainSince(runDir: string, serving: Generation, sinceMs: number): DrainRecord | undefined {
  const drain = readHostDrain(runDir, serving);
  const isOver = drain?.result?.outcome === 'cancelled';
  if (!drain || isOver || !appliesTo(drain, serving)) return undefined;
  return Date.parse(drain.startedAt) >= sinceMs ? drain : undefined;
}

function readHostDrain(runDir: string, generation: Generation): DrainRecord | undefined {
  return openHostLedger({ runDir, live: [generation], log: silentLog }).read();
}

/** An Envoy that was LIVE may hang by the time that the old one has ended. */
async function whySilent({ adminSocket }: Generation): Promise<string | null> {
  const admin = createAdminClient({ kind: 'unix', path: adminSocket }, ANSWER_LIMIT_MS);
  try {
    await admin.state();
    return null;
  } catch (error) {
    return messageOf(error);
  } finally {
    admin.close();
  }
}

function outcomeOf(handover: DrainResult | null): 'redeployed' | 'timeout' | 'admin-unreachable' {
  const outcome = handover?.outcome;
  return outcome === 'timeout' || outcome === 'admin-unreachable' ? outcome : 'redeployed';
}

function failureOf(seen: {
  plan: RedeployPlan;
  serving: Generation | undefined;
  refusal: string | undefined;
  isStopped: boolean;
  drain: DrainRecord | undefined;
  startedAtMs: number;
}): { reason: string; code: string | null } {
  const failed = seen.serving ? seen.serving.failedReload : readFailedStart(seen.plan.app.runDir);
  const isOfThisReload =
    failed !== undefined &&
    Date.parse(failed.at) >= seen.startedAtMs &&
    !seen.refusal?.includes(ALREADY);
  return isOfThisReload
    ? { reason: `${failed.reason}${remedyOf(failed.reason)}`, code: failed.code ?? null }
    : { reason: whyFailed(seen), code: null };
}

function remedyOf(reason: string): string {
  const port = portInUse(reason);
  return port === undefined ? '' : `; ${freePort(port)}`;
}

/** pm2's own words. */
const ALREADY = 'Reload already in progress';

function whyFailed(seen: {
  plan: RedeployPlan;
  serving: Generation | undefined;
  refusal: string | undefined;
  isStopped: boolean;
  drain: DrainRecord | undefined;
}): string {
  const { plan, serving, refusal, isStopped, drain } = seen;
  const { name } = plan.app.process;
  if (refusal?.includes(ALREADY)) return reloadUnderWay(name);
  if (isStopped) return `it was stopped meanwhile: ${describeDrain(drain)}`;
  if (!refusal) return `no newer generation is LIVE; \`pm2 logs ${name}\` says more`;
  const isNewer = serving?.ready && serving.number > (plan.from?.number ?? 0);
  return `pm2 did not ${isNewer ? 'complete the reload' : 'reload'}: ${refusal}`;
}

/** What becomes of the host, and what to do. */
function describeDrain(drain: DrainRecord | undefined): string {
  if (drain?.result) return `the host is ${describeEnded(drain.result, drain.startedBy)}`;
  if (!drain) return 'there is no Envoy any more; `pm2-envoy redeploy` starts one';
  return `the host is ${describeHeld(drain)}; \`pm2-envoy status\` shows how far that is, \`pm2-envoy redeploy\` brings the host back afterwards`;
}

/** pm2 takes over variables before it starts anything, and can't be made to forget them again. */
async function keptVariables({ app, env }: RedeployPlan): Promise<Record<string, string>> {
  if (Object.keys(env).length === 0) return {};
  const now = await app.daemon.processes().catch(() => []);
  const current = now.find(({ pmId }) => pmId === app.process.pmId)?.env ?? {};
  return Object.fromEntries(Object.entries(env).filter(([name, value]) => current[name] === value));
}

/** A hand-over may have joined a drain of the host that was under way. */
function resultOf(runDir: string, from: Generation): DrainResult | null {
  const handover = openHandoverLedger(from, silentLog).read();
  const shutdown = readHostDrain(runDir, from);
  const joined = shutdown && isAbout(shutdown, from) ? shutdown : undefined;
  return (handover ?? joined)?.result ?? null;
}

function servedOf({ number, version, envoy }: Generation): Served {
  return { generation: number, version: version ?? null, pid: envoy.pid };
}
