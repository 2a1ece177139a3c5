import { type AdminClient, createAdminClient } from '../admin/client.js';
import { CONNECTION_FILTER, listenerMatcher, readConnections } from '../admin/stats.js';
import { type Clock, systemClock } from '../clock.js';
import { openGenerationLedger } from '../drain/locate.js';
import type { DrainResult } from '../drain/state.js';
import { type Generation, openGenerations } from '../envoy/generations.js';
import { isAlive } from '../envoy/process-identity.js';
import { messageOf } from '../errors.js';
import { silentLog } from '../log.js';
import { killTimeoutMs, LISTEN_TIMEOUT_MS } from '../pm2/apps.js';
import type { RedeployPlan } from './plan.js';

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
  | { outcome: 'failed'; reason: string; serves: Served | null }
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
  let refusal: { message: string } | undefined;
  let isOver = false;
  const admin = from && createAdminClient({ kind: 'unix', path: from.adminSocket }, LOOK_MS * 4);
  const reload = app.daemon
    .reload(Number(app.process.pmId), env, limitMs)
    .catch((error: unknown) => {
      refusal = { message: messageOf(error) };
    })
    .finally(() => {
      isOver = true;
    });
  const isNew = ({ number }: Generation): boolean => number > (from?.number ?? 0);
  onProgress({ step: 'starting' });
  while (!isOver) {
    const live = generations.live().findLast((one) => isNew(one) && one.ready);
    const handover = live && from && admin && (await lookAtHandover(from, admin, plan, clock));
    if (handover) onProgress(handover);
    else if (live) onProgress({ step: 'live', generation: live });
    await Promise.race([reload, clock.sleep(LOOK_MS)]);
  }
  admin?.close();

  const shared = { from: from ? servedOf(from) : null, tookMs: clock.nowMs() - startMs };
  const serving = generations.newest();
  if (serving?.ready && isNew(serving) && !refusal) {
    const handover = from ? resultOf(from) : null;
    const outcome = handover?.outcome === 'timeout' ? 'timeout' : 'redeployed';
    return { ...shared, outcome, to: servedOf(serving), handover };
  }
  const failed = serving?.failedReload;
  const isOfNow = failed && Date.parse(failed.at) >= startedAtMs;
  const reason = isOfNow
    ? failed.reason
    : `pm2 did not reload: ${refusal?.message ?? 'no newer generation is LIVE; `pm2 logs envoy` says more'}`;
  return { ...shared, outcome: 'failed', reason, serves: serving ? servedOf(serving) : null };
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
