import { noConnections } from '../../src/admin/stats.js';
import { SHUTDOWN_EVENTS } from '../../src/drain/state.js';
import { NO_DRAIN, type Status } from '../../src/status/status.js';

/** A status of an Envoy that serves, with whatever a test is about. */
export function statusWith(part: Partial<Status> = {}): Status {
  return {
    phase: 'idle',
    ...NO_DRAIN,
    timers: null,
    orphanedDrain: false,
    listenersClosed: false,
    abandonedDrain: false,
    connections: openOn({ '0.0.0.0_10000': 4 }),
    activeRequests: 3,
    holding: 4,
    newConnectionsPerSecond: null,
    paceLeftMs: null,
    oldestPeers: null,
    oldestPeersNote: null,
    envoy: {
      state: 'LIVE',
      silentSince: null,
      version: '1.40.0',
      uptimeSeconds: 202,
      concurrency: 2,
      listeners: 2,
      admin: 'unix:/run/pm2-envoy/generations/1/admin.sock',
      pid: 12502,
      generation: 1,
    },
    generations: [
      {
        number: 1,
        state: 'serving',
        version: '1.40.0',
        pid: 12502,
        runnerPid: 12490,
        startedAt: '2026-11-22T20:31:20.000Z',
        connections: 4,
        deadline: null,
        paceLeftMs: null,
        failedReload: null,
        udp: null,
      },
    ],
    failedStart: null,
    lastPoll: { at: '2026-11-22T20:34:41.000Z', tookMs: 0.4 },
    lastError: null,
    settings: {
      version: '0.1.0',
      bootstrap: '/etc/envoy.yaml',
      checkDelayMs: 10_000,
      drainTimeoutMs: 300_000,
      drainUntil: 'connections',
      minOpenConnections: 0,
    },
    ...part,
  };
}

/** Open connections by listener, all of them TCP unless told otherwise. */
export function openOn(
  byListener: Readonly<Record<string, number>>,
  byKind: Readonly<Record<string, number>> = {},
): NonNullable<Status['connections']> {
  const open = Object.values(byListener).reduce((sum, count) => sum + count, 0);
  const isGiven = Object.keys(byKind).length > 0;
  return {
    open,
    byListener,
    byKind: { ...noConnections(), ...(isGiven ? byKind : { tcp: open }) },
  };
}

const START_MS = Date.parse('2026-11-22T20:34:41.000Z');
const LIMIT_MS = 300_000;

/** A drain with a drain-timeout of five minutes, as it is seen after `elapsedMs`. */
export function draining(
  phase: Status['phase'],
  elapsedMs: number,
  part: Partial<Status> = {},
): Status {
  return statusWith({
    phase,
    startedAt: new Date(START_MS).toISOString(),
    deadline: new Date(START_MS + LIMIT_MS).toISOString(),
    timeLeftMs: LIMIT_MS - elapsedMs,
    connectionsAtStart: 10,
    ...part,
  });
}

/** The same drain, ended. */
export function ended(outcome: NonNullable<Status['outcome']>, part: Partial<Status> = {}): Status {
  return statusWith({
    phase: 'finish',
    outcome,
    startedAt: new Date(START_MS).toISOString(),
    connectionsAtStart: 10,
    durationMs: 72_000,
    connectionsLeft: 0,
    ...part,
  });
}

/**
 * The same looks at one drain after another, with what a manager records: each phase began at the first look at
 * it. A drain that is first seen late is one of an earlier manager, which recorded nothing.
 */
export function recorded(statuses: readonly Status[]): Status[] {
  let before: Pick<Status, 'startedAt' | 'steps'> = { startedAt: null, steps: [] };
  return statuses.map((status) => {
    const { startedAt, phase, outcome, timeLeftMs } = status;
    if (startedAt === null || phase === 'idle' || status.steps.length > 0) return status;
    const steps = startedAt === before.startedAt ? [...before.steps] : [];
    const elapsedMs = LIMIT_MS - (timeLeftMs ?? 0);
    if (outcome === null && (steps.length > 0 || elapsedMs <= 1_000)) {
      for (const event of SHUTDOWN_EVENTS.slice(steps.length, SHUTDOWN_EVENTS.indexOf(phase) + 1)) {
        const atMs = Date.parse(startedAt) + (steps.length === 0 ? 0 : elapsedMs);
        steps.push({ phase: event, at: new Date(atMs).toISOString() });
      }
    }
    before = { startedAt, steps };
    return { ...status, steps };
  });
}
