import { NO_DRAIN, type Status } from './status.js';

/** What a manager of an earlier version does not say. */
const UNSAID: Partial<Status> = {
  ...NO_DRAIN,
  orphanedDrain: false,
  connections: null,
  activeRequests: null,
  newConnectionsPerSecond: null,
  paceLeftMs: null,
  oldestPeers: null,
  oldestPeersNote: null,
  envoy: null,
  generations: [],
  lastPoll: null,
  lastError: null,
};

/**
 * Reads what a manager answered to `GET /status`. Fields that an earlier version lacks are null, those of a
 * later one are kept; undefined: it is no status.
 */
export function readStatusAnswer(body: unknown): Status | undefined {
  if (!isObject(body) || typeof body['phase'] !== 'string') return undefined;
  const unsaid = Object.entries(UNSAID).filter(([name]) => body[name] === undefined);
  const status: Record<string, unknown> = { ...body, ...Object.fromEntries(unsaid) };
  const { envoy, connections, generations, oldestPeers } = status;
  const isStatus =
    (envoy === null || isObject(envoy)) &&
    (connections === null || isCount(connections)) &&
    isListOfObjects(generations) &&
    (oldestPeers === null || isListOfObjects(oldestPeers)) &&
    NUMBERS.every((name) => status[name] === null || typeof status[name] === 'number') &&
    TEXTS.every((name) => status[name] === null || typeof status[name] === 'string');
  return isStatus ? (status as unknown as Status) : undefined;
}

const NUMBERS: readonly (keyof Status)[] = [
  'timeLeftMs',
  'connectionsAtStart',
  'durationMs',
  'connectionsLeft',
  'activeRequests',
  'newConnectionsPerSecond',
  'paceLeftMs',
];
const TEXTS: readonly (keyof Status)[] = [
  'outcome',
  'startedAt',
  'deadline',
  'oldestPeersNote',
  'lastError',
];

function isCount(value: unknown): boolean {
  if (!isObject(value) || typeof value['open'] !== 'number') return false;
  return [value['byListener'], value['byKind']].every(
    (part) => isObject(part) && Object.values(part).every((count) => typeof count === 'number'),
  );
}

function isListOfObjects(value: unknown): boolean {
  return Array.isArray(value) && value.every(isObject);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
