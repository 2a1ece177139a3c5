import { noConnections } from '../admin/stats.js';
import type { DrainOrigin, DrainOriginKind } from '../drain/state.js';
import { isObject } from '../json.js';
import { NO_DRAIN, type Status } from './status.js';

/** What a manager of an earlier version does not say. */
const UNSAID: Partial<Status> = {
  ...NO_DRAIN,
  timers: null,
  orphanedDrain: false,
  listenersClosed: false,
  abandonedDrain: false,
  connections: null,
  activeRequests: null,
  holding: null,
  newConnectionsPerSecond: null,
  paceLeftMs: null,
  oldestPeers: null,
  oldestPeersNote: null,
  envoy: null,
  generations: [],
  failedStart: null,
  lastPoll: null,
  lastError: null,
  settings: {
    version: '',
    bootstrap: null,
    checkDelayMs: 0,
    drainTimeoutMs: 0,
    drainUntil: 'connections',
    minOpenConnections: 0,
  },
};

/**
 * Reads what a manager answered to `GET /status`. Fields that an earlier version lacks are null, those of a
 * later one are kept; undefined: it is no status.
 */
export function readStatusAnswer(body: unknown): Status | undefined {
  if (!isObject(body) || typeof body['phase'] !== 'string') return undefined;
  const unsaid = Object.entries(UNSAID).filter(([name]) => body[name] === undefined);
  const status: Record<string, unknown> = { ...body, ...Object.fromEntries(unsaid) };
  const { envoy, connections, generations, oldestPeers, failedStart, settings, steps, timers } =
    status;
  const isStatus =
    (envoy === null || isObject(envoy)) &&
    (failedStart === null || isObject(failedStart)) &&
    (timers === null || isObject(timers)) &&
    isObject(settings) &&
    (connections === null || isCount(connections)) &&
    isListOfObjects(generations) &&
    isListOfObjects(steps) &&
    (oldestPeers === null || isListOfObjects(oldestPeers)) &&
    NUMBERS.every((name) => status[name] === null || typeof status[name] === 'number') &&
    TEXTS.every((name) => status[name] === null || typeof status[name] === 'string');
  if (!isStatus) return undefined;
  // A later version may know of others.
  const startedBy = isOrigin(status['startedBy']) ? status['startedBy'] : null;
  const whole = status as unknown as Status;
  return { ...whole, startedBy, connections: whole.connections && withAllKinds(whole.connections) };
}

/** {@link DrainOriginKind} */
const ORIGINS: Readonly<Record<DrainOriginKind, true>> = {
  http: true,
  cli: true,
  trigger: true,
  signal: true,
  'orphaned-drain': true,
  stop: true,
  unknown: true,
};

function isOrigin(value: unknown): value is DrainOrigin {
  return isObject(value) && typeof value['kind'] === 'string' && value['kind'] in ORIGINS;
}

const NUMBERS: readonly (keyof Status)[] = [
  'timeLeftMs',
  'connectionsAtStart',
  'durationMs',
  'connectionsLeft',
  'activeRequests',
  'newConnectionsPerSecond',
  'paceLeftMs',
  'holding',
  'checkDelayMs',
];
const TEXTS: readonly (keyof Status)[] = [
  'outcome',
  'startedAt',
  'deadline',
  'listenersCloseAt',
  'oldestPeersNote',
  'lastError',
];

/** An earlier version may count fewer kinds. */
function withAllKinds(counted: NonNullable<Status['connections']>): Status['connections'] {
  return { ...counted, byKind: { ...noConnections(), ...counted.byKind } };
}

function isCount(value: unknown): boolean {
  if (!isObject(value) || typeof value['open'] !== 'number') return false;
  return [value['byListener'], value['byKind']].every(
    (part) => isObject(part) && Object.values(part).every((count) => typeof count === 'number'),
  );
}

function isListOfObjects(value: unknown): boolean {
  return Array.isArray(value) && value.every(isObject);
}
