import { begin, hear } from '../../src/manager/page/progress.js';
import type { PageState, Snapshot } from '../../src/manager/page/state.js';
import { type GenerationStatus, NO_DRAIN, type Status } from '../../src/status/status.js';

export const NOW_MS: number = Date.parse('2026-11-24T14:03:20.000Z');
/** What must never come through as it is. */
export const HOSTILE = `</script><img src=x onerror="alert('1')">&amp;`;

/** A status as the manager gives it of an Envoy in service, with what is changed. */
export function makeStatus(changed: Partial<Status> = {}): Status {
  return {
    phase: 'idle',
    ...NO_DRAIN,
    timers: null,
    orphanedDrain: false,
    listenersClosed: false,
    abandonedDrain: false,
    connections: {
      open: 12,
      byListener: { edge_http: 4, edge_https: 8 },
      byKind: { http1: 6, http2: 2, http3: 0, tcp: 1, websocket: 3, udp: 0 },
    },
    activeRequests: 5,
    holding: 12,
    newConnectionsPerSecond: 1.5,
    paceLeftMs: null,
    oldestPeers: [
      { peer: '10.0.0.7:51234', local: '10.0.0.1:443', generation: 3, seenForMs: 65_000 },
    ],
    oldestPeersNote: null,
    envoy: {
      state: 'LIVE',
      silentSince: null,
      version: '1.40.0',
      uptimeSeconds: 3_725,
      concurrency: 4,
      listeners: 2,
      admin: 'unix:/run/pm2-envoy/generations/3/admin.sock',
      pid: 4711,
      generation: 3,
    },
    generations: [makeGeneration()],
    failedStart: null,
    lastPoll: { at: '2026-11-24T14:03:19.900Z', tookMs: 1.234 },
    lastError: null,
    settings: {
      version: '0.1.0',
      bootstrap: '/etc/envoy.yaml',
      checkDelayMs: 10_000,
      drainTimeoutMs: 300_000,
      drainUntil: 'connections',
      minOpenConnections: 0,
    },
    ...changed,
  };
}

export function makeGeneration(changed: Partial<GenerationStatus> = {}): GenerationStatus {
  return {
    number: 3,
    state: 'serving',
    version: '1.40.0',
    pid: 4711,
    runnerPid: 4700,
    startedAt: '2026-11-24T13:01:15.000Z',
    connections: 12,
    deadline: null,
    paceLeftMs: null,
    failedReload: null,
    udp: null,
    ...changed,
  };
}

/** A drain under way in one phase. */
export function makeDrain(changed: Partial<Status> = {}): Status {
  return makeStatus({
    phase: 'wait',
    startedAt: '2026-11-24T14:02:50.000Z',
    deadline: '2026-11-24T14:07:50.000Z',
    timeLeftMs: 270_000,
    connectionsAtStart: 40,
    paceLeftMs: 42_000,
    ...changed,
  });
}

export function makeSnapshot(changed: Partial<Snapshot> = {}): Snapshot {
  return { host: 'edge-7', nowMs: NOW_MS, spans: [], log: [], ...changed };
}

/** The page as it is just after it has heard a status. */
export function makeState(
  status: Partial<Status> = {},
  changed: Partial<PageState> = {},
): PageState {
  const whole = makeStatus(status);
  return { ...hear(begin(makeSnapshot(), whole), whole, NOW_MS), ...changed };
}

/** What a person reads of it. */
export function textOf(html: string): string {
  return html
    .replace(/<\/?(b|i|code|span|time|wbr)\b[^>]*>/g, '')
    .replace(/<[^>]*>/g, ' ')
    .replace(/\s+/g, ' ')
    .trim();
}
