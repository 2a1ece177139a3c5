import { type AdminClient, createAdminClient } from '../../admin/client.js';
import { CONNECTION_FILTER, listenerMatcher, readConnections } from '../../admin/stats.js';
import { type Clock, systemClock } from '../../clock.js';
import { openGenerationLedger } from '../../drain/locate.js';
import type { DrainResult } from '../../drain/state.js';
import { messageOf } from '../../errors.js';
import { type Generation, openGenerations } from '../../host/generations.js';
import { isAlive } from '../../host/process-identity.js';
import { silentLog } from '../../log.js';
import { killTimeoutMs, LISTEN_TIMEOUT_MS } from '../../pm2/apps.js';
import { type RedeployPlan, reloadUnderWay } from './plan.js';

/** How a redeploy ended. */
export type RedeployResult = {
  from: Served | null;
  tookMs: number;
} & (
  | {
      /** `timeout`: drain-timeout was over before the old generation was empty. */
      outcome: 'redeployed' | 'timeout';
      to: Served;
      /** How the old generation's hand-over ended; null when there was none, or it is not known. */
      handover: DrainResult | null;
    }
  | {
      outcome: 'failed';
      reason: string;
      serves: Served | null;
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

/**
 * Has pm2 reload the app and follows it to its end in the run directory. Never rejects: a reload that
 * fails leaves the old generation serving, and the result says why.
 */
export async function runReload(
  plan: RedeployPlan,
  onProgress: (progress: RedeployProgress) => void,
  clock: Clock = systemClock,
): Promise<RedeployResult> {
  const { app, config, from, env } = plan;
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
  const reload = app.daemon
    .reload(Number(app.process.pmId), env, limitMs)
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
    const handover = live && from && admin && (await lookAtHandover(from, admin, plan, clock));
    if (handover) onProgress(handover);
    await Promise.race([reload, clock.sleep(LOOK_MS)]);
  }
  admin?.close();

  const shared = { from: from ? servedOf(from) : null, tookMs: clock.nowMs() - startMs };
  const serving = generations.newest();
  const isStopped = serving ? isDrainedSince(serving, startedAtMs) : from !== undefined;
  if (serving?.ready && isNew(serving) && !refusal && !isStopped) {
    const handover = from ? resultOf(from) : null;
    const outcome = handover?.outcome === 'timeout' ? 'timeout' : 'redeployed';
    return { ...shared, outcome, to: servedOf(serving), handover };
  }
  const reason = whyFailed({ plan, serving, refusal, isStopped, startedAtMs });
  const serves = serving?.ready && !isStopped ? servedOf(serving) : null;
  return { ...shared, outcome: 'failed', reason, serves, keeps: await keptVariables(plan) };
}

/** The generations that a redeploy leaves beside the newest, such as one that an earlier restart left. */
export function leftBeside(runDir: string): Generation[] {
  return openGenerations(runDir).live().slice(0, -1);
}

async function lookAtHandover(
  from: Generation,
  admin: AdminClient,
  { config }: RedeployPlan,
  clock: Clock,
): Promise<RedeployProgress | undefined> {
  const record = openGenerationLedger(from, 'handover', silentLog).read();
  if (!record || record.result || !isAlive(from.envoy)) return undefined;
  const connections = await admin.stats({ type: 'Gauges', filter: CONNECTION_FILTER }).then(
    ({ stats }) => {
      const reading = readConnections(stats, listenerMatcher(config.ignoreListeners));
      return reading.kind === 'known' ? reading.count.open : null;
    },
    () => null,
  );
  const timeLeftMs = Math.max(0, record.deadlineMs - clock.nowMs());
  return { step: 'handing-over', from, connections, timeLeftMs };
}

/** Whoever stops the app in the middle of a reload drains the host, with the new generation in it. */
function isDrainedSince(serving: Generation, sinceMs: number): boolean {
  const drain = openGenerationLedger(serving, 'shutdown', silentLog).read();
  return drain !== undefined && Date.parse(drain.startedAt) >= sinceMs;
}

function whyFailed(seen: {
  plan: RedeployPlan;
  serving: Generation | undefined;
  refusal: string | undefined;
  isStopped: boolean;
  startedAtMs: number;
}): string {
  const { plan, serving, refusal, isStopped, startedAtMs } = seen;
  const { name } = plan.app.process;
  if (refusal?.includes('Reload already in progress')) return reloadUnderWay(name);
  const failed = serving?.failedReload;
  if (failed && Date.parse(failed.at) >= startedAtMs) return failed.reason;
  if (isStopped) return 'somebody stopped it meanwhile: the host is drained';
  if (!refusal) return `no newer generation is LIVE; \`pm2 logs ${name}\` says more`;
  const isNewer = serving?.ready && serving.number > (plan.from?.number ?? 0);
  return `pm2 did not ${isNewer ? 'see the reload through' : 'reload'}: ${refusal}`;
}

/** pm2 takes over variables before it starts anything, and can't be made to forget them again. */
async function keptVariables({ app, env }: RedeployPlan): Promise<Record<string, string>> {
  if (Object.keys(env).length === 0) return {};
  const now = await app.daemon.processes().catch(() => []);
  const current = now.find(({ pmId }) => pmId === app.process.pmId)?.env ?? {};
  return Object.fromEntries(Object.entries(env).filter(([name, value]) => current[name] === value));
}

/** A hand-over may have joined a drain of the host that was under way. */
function resultOf(from: Generation): DrainResult | null {
  const [handover, shutdown] = (['handover', 'shutdown'] as const).map((command) =>
    openGenerationLedger(from, command, silentLog).read(),
  );
  return (handover ?? shutdown)?.result ?? null;
}

function servedOf({ number, version, envoy }: Generation): Served {
  return { generation: number, version: version ?? null, pid: envoy.pid };
}
