import type { AdminClient } from '../admin/client.js';
import {
  type ConnectionCount,
  DETAIL_FILTER,
  listenerMatcher,
  readConnections,
} from '../admin/stats.js';
import { type Clock, systemClock } from '../clock.js';
import type { Config } from '../config/config.js';
import type { HostDrain } from '../drain/host-drain.js';
import type { EnvoyLocator, Located } from '../drain/locate.js';
import type { DrainOutcome, DrainPhase } from '../drain/state.js';
import { messageOf } from '../errors.js';

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
  /** Null: they can't be counted right now. */
  connections: Pick<ConnectionCount, 'open' | 'byListener' | 'byKind'> | null;
  activeRequests: number | null;
  envoy: EnvoyStatus | null;
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
  const asked = located && (await ask(located.newest.admin, config, signal));
  return {
    ...drainPart(hostDrain, located, clock),
    connections: asked?.count ? pickCount(asked.count) : null,
    activeRequests: asked?.count?.activeRequests ?? null,
    envoy: located ? { ...describe(located), ...asked?.info } : null,
    lastPoll: asked?.poll ?? null,
    lastError: hostDrain.current()?.lastError() ?? asked?.error ?? null,
  };
}

interface Answers {
  count?: ConnectionCount;
  poll?: { at: string; tookMs: number };
  info?: Pick<EnvoyStatus, 'state' | 'version' | 'uptimeSeconds' | 'concurrency'>;
  error?: string;
}

async function ask(
  admin: AdminClient,
  config: Pick<Config, 'ignoreListeners'>,
  signal?: AbortSignal,
): Promise<Answers> {
  const answers: Answers = {};
  try {
    const at = new Date().toISOString();
    const { stats, tookMs } = await admin.stats({ type: 'Gauges', filter: DETAIL_FILTER }, signal);
    answers.poll = { at, tookMs: Number(tookMs.toFixed(3)) };
    const reading = readConnections(stats, listenerMatcher(config.ignoreListeners));
    if (reading.kind === 'known') answers.count = reading.count;
    const { version, state, uptimeSeconds, concurrency } = await admin.serverInfo(signal);
    answers.info = { version, state, uptimeSeconds, concurrency };
  } catch (error) {
    answers.error = messageOf(error);
  }
  return answers;
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
