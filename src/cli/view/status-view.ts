import { formatDuration } from '../../config/duration.js';
import type { Peer } from '../../status/peers.js';
import type { EnvoyStatus, GenerationStatus, Status } from '../../status/status.js';
import type { Row } from '../terminal/layout.js';
import { clockTime, counted, fullest, kindsOf, left, roughly } from './words.js';

/** How many of the listeners and peers are shown at most. */
export const MOST = 5;

/** A status as people read it, all of it. */
export function statusRows(status: Status): Row[] {
  return [
    phaseRow(status),
    ...deadlineRows(status, (iso) => iso),
    ...envoyRows(status),
    ...connectionRows(status, MOST),
    ...peerRows(status, MOST),
    ...errorRows(status),
  ];
}

/** Envoy, and its generations where there is more to say than that one serves under its runner. */
export function envoyRows(status: Status): Row[] {
  const { envoy, generations } = status;
  const isPlain = generations.every(
    ({ runnerPid }) => generations.length === 1 && runnerPid !== null,
  );
  const failed = generations.findLast(({ state }) => state === 'serving')?.failedReload;
  return [
    {
      label: 'envoy',
      text: envoy ? describeEnvoy(envoy) : 'there is none; `pm2-envoy doctor` says why',
    },
    ...(isPlain ? [] : [{ label: 'generations', text: '' }, ...generations.map(generationRow)]),
    ...(failed
      ? [{ label: 'last reload', text: `failed at ${failed.at}: ${failed.reason}`, ...BAD }]
      : []),
  ];
}

/** Until when a drain goes on: at the latest, and as connections end now. */
export function deadlineRows(
  { phase, outcome, deadline, timeLeftMs, paceLeftMs }: Status,
  showTime: (iso: string) => string,
): Row[] {
  if (phase === 'idle' || outcome !== null || timeLeftMs === null) return [];
  const inTime = `in ${left(timeLeftMs)}`;
  const texts = deadline === null ? [inTime] : [`${inTime}, at ${showTime(deadline)}`, inTime];
  const isNear = timeLeftMs < NEAR_MS;
  return [
    { label: 'deadline', text: texts, ...(isNear ? WARN : {}) },
    ...(paceLeftMs === null ? [] : [paceRow(paceLeftMs, timeLeftMs)]),
  ];
}

/** What is open: by kind and by listener, and what comes in. */
export function connectionRows(status: Status, most: number): Row[] {
  const { connections, activeRequests, newConnectionsPerSecond: rate } = status;
  const rateRow = { label: 'new', text: [`${rate} connections a second`, `${rate}/s`] };
  const rates = rate === null || (rate === 0 && isClosed(status)) ? [] : [rateRow];
  if (!connections) return [{ label: 'connections', text: 'unknown', ...WARN }, ...rates];
  const kinds = kindsOf(connections);
  const open = `${connections.open} open`;
  const detail = kinds === '' ? '' : ` (${kinds})`;
  const requests = activeRequests === null ? '' : `, ${counted(activeRequests, 'active request')}`;
  const listeners = fullest(connections).map(
    ([name, count]): Row => ({
      kind: 'item',
      label: String(count),
      text: name,
      cut: 'middle',
    }),
  );
  return [
    {
      label: 'connections',
      text: [`${open}${detail}${requests}`, `${open}${requests}`, open],
      ...(kinds === '' ? {} : { below: { kind: 'item', text: kinds } }),
    },
    ...atMost(listeners, most, 'listener'),
    ...rates,
  ];
}

/** The oldest peers, or why they can't be seen. */
export function peerRows(status: Status, most: number): Row[] {
  const { oldestPeers: peers, oldestPeersNote: note, lastError, connections } = status;
  if (!peers) {
    if (note === null || note === lastError || connections?.open === 0) return [];
    return [{ label: 'oldest', text: `peers unknown: ${note}` }];
  }
  const [oldest] = peers;
  if (!oldest || most === 0) return [];
  if (most === 1) return [oldestRow(oldest)];
  const rows = peers.slice(0, most).map(
    (one): Row => ({
      kind: 'item',
      label: roughly(one.seenForMs),
      text: peerTexts(one),
      cut: 'middle',
    }),
  );
  const texts = ['peers, by how long each has been seen', 'peers, seen for', 'peers'];
  return [{ label: 'oldest', text: texts }, ...rows];
}

/** What went wrong last. */
export function errorRows({ lastError }: Status): Row[] {
  return lastError === null ? [] : [{ label: 'last error', text: lastError, ...BAD }];
}

const WARN = { style: 'warn' } as const;
const BAD = { style: 'bad' } as const;
/** A deadline that is nearer than that is worth a look. */
const NEAR_MS = 30_000;

/** Where the drain is. */
export function phaseRow({ phase, outcome, startedAt, orphanedDrain, ...status }: Status): Row {
  const label = 'phase';
  if (orphanedDrain) {
    const text = 'idle, but somebody has failed Envoy’s health check (`pm2-envoy resume`)';
    return { label, text, ...WARN };
  }
  if (phase === 'idle') return { label, text: 'idle' };
  if (outcome === null) return { label, text: `${phase} (drain of ${startedAt})`, style: 'bold' };
  const { durationMs, connectionsLeft } = status;
  const took = durationMs === null ? '' : ` after ${formatDuration(durationMs)}`;
  const rest =
    connectionsLeft === null ? '' : `, ${counted(connectionsLeft, 'connection')} left then`;
  return { label, text: `${outcome}${took}${rest} (drain of ${startedAt})`, style: 'bold' };
}

function peerTexts({ peer, local }: Peer): string[] {
  return [`${peer} to ${local}`, peer];
}

/** The only one that there is room for. */
function oldestRow({ peer, local, seenForMs }: Peer): Row {
  const time = roughly(seenForMs);
  const texts = [`${peer} to ${local}, seen for ${time}`, `${peer}, ${time}`, peer];
  return { label: 'oldest', text: texts, cut: 'middle' };
}

function paceRow(paceLeftMs: number, timeLeftMs: number): Row {
  const time = roughly(Math.max(1_000, paceLeftMs));
  const isLate = paceLeftMs > timeLeftMs;
  const texts = [
    `done in about ${time}, as connections end now${isLate ? ': after the deadline' : ''}`,
    `done in about ${time}`,
    `about ${time}`,
  ];
  return { label: 'pace', text: texts, ...(isLate ? WARN : {}) };
}

/** Its listeners are closed: that nothing comes in is no news. */
function isClosed({ phase, outcome }: Status): boolean {
  return phase === 'wait' || phase === 'finish' || outcome !== null;
}

function describeEnvoy(envoy: EnvoyStatus): string {
  const parts = [
    envoy.version === null ? 'does not answer' : `${envoy.version} ${envoy.state}`,
    envoy.generation === null ? envoy.admin : `generation ${envoy.generation}`,
    ...(envoy.pid === null ? [] : [`pid ${envoy.pid}`]),
    ...(envoy.uptimeSeconds === null ? [] : [`up ${formatDuration(envoy.uptimeSeconds * 1_000)}`]),
    ...(envoy.concurrency ? [counted(envoy.concurrency, 'worker')] : []),
  ];
  return parts.join(', ');
}

function generationRow(one: GenerationStatus): Row {
  const parts = [
    one.state,
    one.version ?? 'version not known yet',
    `pid ${one.pid}`,
    one.connections === null
      ? 'connections unknown'
      : `${counted(one.connections, 'connection')} open`,
    ...(one.deadline === null ? [] : [`until ${one.deadline} at the latest`]),
    ...(one.runnerPid === null && one.state !== 'handing-over' ? ['without a runner'] : []),
  ];
  const open = one.connections === null ? 'unknown' : `${one.connections} open`;
  const until = one.deadline === null ? '' : ` until ${clockTime(one.deadline)}`;
  return {
    kind: 'item',
    label: String(one.number),
    text: [parts.join(', '), `${one.state}, ${open}${until}`, `${one.state}, ${open}`],
  };
}

/** The first so many, and how many there are more. */
function atMost(rows: readonly Row[], most: number, noun: string): Row[] {
  const rest = rows.length - most;
  if (rest <= 0) return [...rows];
  const more: Row = { kind: 'item', label: '', text: `and ${counted(rest, `more ${noun}`)}` };
  return [...rows.slice(0, most), ...(most > 1 ? [more] : [])];
}
