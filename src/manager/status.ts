import type { AdminClient } from '../admin/client.js';
import {
  type ConnectionCount,
  DETAIL_FILTER,
  listenerMatcher,
  readConnections,
  sumConnections,
} from '../admin/stats.js';
import { type Clock, systemClock } from '../clock.js';
import type { Config } from '../config/config.js';
import type { EnvoyTarget } from '../drain/envoys.js';
import type { HostDrain } from '../drain/host-drain.js';
import { type EnvoyLocator, type Located, openGenerationLedger } from '../drain/locate.js';
import type { DrainOutcome, DrainPhase } from '../drain/state.js';
import { isAttended } from '../envoy/generations.js';
import { messageOf } from '../errors.js';
import { silentLog } from '../log.js';

/** The body of `GET /status`. */
export interface Status {
  /** `idle`, or the drain's phase. */
  phase: 'idle' | DrainPhase;
  /** Null while a drain runs, and without one. */
  outcome: DrainOutcome | null;
  /** When the drain began and when `drain-timeout` is over, as ISO 8601; null without one. */
  startedAt: string | null;
  deadline: string | null;
  timeLeftMs: number | null;
  connectionsAtStart: number | null;
  /** Envoy is DRAINING although no drain of pm2-envoy's runs. */
  orphanedDrain: boolean;
  /** Null: they can't be counted right now. */
  connections: Pick<ConnectionCount, 'open' | 'byListener' | 'byKind'> | null;
  activeRequests: number | null;
  envoy: EnvoyStatus | null;
  /** Every Envoy of this host that pm2-envoy started, oldest first; `connections` is their sum. */
  generations: GenerationStatus[];
  lastPoll: { at: string; tookMs: number } | null;
  lastError: string | null;
}

/** The Envoy in service. */
export interface EnvoyStatus {
  /** Null: it does not answer. */
  state: string | null;
  version: string | null;
  uptimeSeconds: number | null;
  concurrency: number | null;
  admin: string;
  /** Null for an Envoy that pm2-envoy did not start. */
  pid: number | null;
  generation: number | null;
}

/** One generation. */
export interface GenerationStatus {
  number: number;
  /** `handing-over`: a newer one serves, and this one's connections are waited for. */
  state: 'starting' | 'serving' | 'handing-over';
  /** Null until it has been LIVE. */
  version: string | null;
  pid: number;
  /** Null: nobody supervises it, and the next runner takes over from it. */
  runnerPid: number | null;
  /** ISO 8601 */
  startedAt: string;
  /** Null: they can't be counted right now. */
  connections: number | null;
  /** When a hand-over cuts what is left, as ISO 8601; null without one. */
  deadline: string | null;
  /** Why the latest attempt to replace it failed. */
  failedReload: { at: string; reason: string } | null;
}

/** Asks the Envoy in service, and puts what it says beside the drain. Never rejects. */
export async function readStatus(
  options: {
    config: Pick<Config, 'ignoreListeners'>;
    locator: EnvoyLocator;
    hostDrain: HostDrain;
    clock?: Clock;
  },
  signal?: AbortSignal,
): Promise<Status> {
  const { config, locator, hostDrain, clock = systemClock } = options;
  const located = await locator.locate();
  const targets = located?.targets ?? [];
  const [info, counted] = await Promise.all([
    located && askInfo(located.newest.admin, signal),
    Promise.all(targets.map((target) => count(target, config, signal))),
  ]);
  const answers = counted.filter((_, index) => !isStarting(targets[index]));
  const counts = answers.map(({ count }) => count).filter((count) => count !== undefined);
  const sum = counts.length === answers.length && located ? sumConnections(counts) : undefined;
  const drain = drainPart(hostDrain, located, clock);
  return {
    ...drain,
    orphanedDrain: drain.phase === 'idle' && info?.info?.state === 'DRAINING',
    connections: sum ? pickCount(sum) : null,
    activeRequests: sum?.activeRequests ?? null,
    envoy: located ? { ...describe(located), ...info?.info } : null,
    generations: targets.flatMap((target, index) =>
      describeGeneration(target, counted[index]?.count, clock),
    ),
    lastPoll: answers.at(-1)?.poll ?? null,
    lastError: hostDrain.current()?.lastError() ?? info?.error ?? null,
  };
}

async function askInfo(
  admin: AdminClient,
  signal?: AbortSignal,
): Promise<{ info?: Partial<EnvoyStatus>; error?: string }> {
  try {
    const { version, state, uptimeSeconds, concurrency } = await admin.serverInfo(signal);
    return { info: { version, state, uptimeSeconds, concurrency } };
  } catch (error) {
    return { error: messageOf(error) };
  }
}

interface Counted {
  count?: ConnectionCount;
  poll?: { at: string; tookMs: number };
}

async function count(
  { admin }: EnvoyTarget,
  config: Pick<Config, 'ignoreListeners'>,
  signal?: AbortSignal,
): Promise<Counted> {
  try {
    const at = new Date().toISOString();
    const { stats, tookMs } = await admin.stats({ type: 'Gauges', filter: DETAIL_FILTER }, signal);
    const poll = { at, tookMs: Number(tookMs.toFixed(3)) };
    const reading = readConnections(stats, listenerMatcher(config.ignoreListeners));
    return reading.kind === 'known' ? { count: reading.count, poll } : { poll };
  } catch {
    // Whether Envoy answers is said by askInfo.
    return {};
  }
}

/** It has no listeners yet, and often no admin interface either. */
function isStarting(target: EnvoyTarget | undefined): boolean {
  return target?.generation?.ready === false;
}

function describeGeneration(
  { generation }: EnvoyTarget,
  count: ConnectionCount | undefined,
  clock: Clock,
): GenerationStatus[] {
  if (!generation) return [];
  const { number, ready, version, envoy, runner, startedAt, failedReload } = generation;
  const handover = openGenerationLedger(generation, 'handover', silentLog).read();
  const leftMs = handover ? Math.max(0, handover.deadlineMs - clock.nowMs()) : undefined;
  return [
    {
      number,
      state: !ready ? 'starting' : handover ? 'handing-over' : 'serving',
      version: version ?? null,
      pid: envoy.pid,
      runnerPid: isAttended(generation) ? runner.pid : null,
      startedAt,
      connections: count?.open ?? null,
      deadline: leftMs === undefined ? null : new Date(Date.now() + leftMs).toISOString(),
      failedReload: failedReload ?? null,
    },
  ];
}

function drainPart(
  hostDrain: HostDrain,
  located: Located | undefined,
  clock: Clock,
): Pick<
  Status,
  'phase' | 'outcome' | 'startedAt' | 'deadline' | 'timeLeftMs' | 'connectionsAtStart'
> {
  const state = hostDrain.state(located);
  const none = { outcome: null, startedAt: null, deadline: null, timeLeftMs: null };
  switch (state.kind) {
    case 'idle':
      return { phase: 'idle', ...none, connectionsAtStart: null };
    case 'draining': {
      const { phase, startedAt, deadlineMs, connectionsAtStart } = state;
      const timeLeftMs = Math.max(0, deadlineMs - clock.nowMs());
      const deadline = new Date(Date.now() + timeLeftMs).toISOString();
      return { phase, outcome: null, startedAt, deadline, timeLeftMs, connectionsAtStart };
    }
    case 'ended': {
      const { phase, outcome, startedAt, connectionsAtStart } = state.result;
      return { ...none, phase, outcome, startedAt, connectionsAtStart };
    }
  }
}

function pickCount({ open, byListener, byKind }: ConnectionCount): Status['connections'] {
  return { open, byListener, byKind };
}

function describe({ newest, generation }: Located): EnvoyStatus {
  return {
    state: null,
    version: null,
    uptimeSeconds: null,
    concurrency: null,
    admin: newest.admin.address,
    pid: generation?.envoy.pid ?? null,
    generation: generation?.number ?? null,
  };
}
