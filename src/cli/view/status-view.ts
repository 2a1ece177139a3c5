import { formatDuration } from '../../config/duration.js';
import { describeTimeline } from '../../config/timeline.js';
import { describeOrigin, STARTS_ENVOY } from '../../drain/state.js';
import { unreachable } from '../../errors.js';
import { describeFailedStart } from '../../host/failed-start.js';
import type { Peer } from '../../status/peers.js';
import { isComingUp, isDraining, situationOf } from '../../status/situation.js';
import type { EnvoyStatus, GenerationStatus, Status } from '../../status/status.js';
import type { Row } from '../terminal/layout.js';
import {
  clockTime,
  closingIn,
  counted,
  fullest,
  holdersText,
  kindsOf,
  left,
  roughly,
} from './words.js';

/** How many of the listeners and peers are shown at most. */
export const MOST = 5;

/** A status as people read it, all of it. */
export function statusRows(status: Status): Row[] {
  return [
    phaseRow(status),
    ...originRows(status),
    ...waitRows(status),
    ...deadlineRows(status, (iso) => iso),
    ...timersRow(status),
    ...envoyRows(status),
    ...connectionRows(status, MOST),
    ...peerRows(status, MOST),
    ...errorRows(status),
  ];
}

/** Envoy, and its generations where there is more to say than that one serves under its runner. */
export function envoyRows(status: Status): Row[] {
  const { envoy, generations, failedStart } = status;
  const isPlain = generations.every(
    ({ runnerPid }) => generations.length === 1 && runnerPid !== null,
  );
  const newest = generations.findLast(
    ({ state }) => state !== 'starting' && state !== 'handing-over',
  );
  const failed = newest?.failedReload;
  const lossy = newest?.udp?.state === 'unsteered' ? newest.udp : undefined;
  return [
    {
      label: 'envoy',
      ...(envoy && !failedStart
        ? { text: describeEnvoy(envoy, isComingUp(status)) }
        : { text: describeNone(failedStart), ...BAD }),
    },
    ...(envoy?.listeners === 0 ? [{ label: 'listeners', text: NO_LISTENER, ...BAD }] : []),
    ...(isPlain ? [] : [{ label: 'generations', text: '' }, ...generations.map(generationRow)]),
    ...(failed
      ? [{ label: 'last reload', text: `failed at ${failed.at}: ${failed.reason}`, ...BAD }]
      : []),
    ...(lossy
      ? [
          {
            label: 'udp',
            text: `a reload loses some of HTTP/3 and UDP: ${lossy.reason ?? 'unknown why'}`,
            ...WARN,
          },
        ]
      : []),
  ];
}

function describeNone(failed: Status['failedStart']): string {
  return failed
    ? `there is none: ${describeFailedStart(failed)}`
    : `there is none; ${STARTS_ENVOY}`;
}

/** Until when a drain continues: at the latest, and as connections end now. */
export function deadlineRows(status: Status, showTime: (iso: string) => string): Row[] {
  const { deadline, timeLeftMs, paceLeftMs } = status;
  if (!isDraining(status) || timeLeftMs === null) return [];
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

/** Which timer cuts what is open, and when; nothing where that is drain-timeout, and no one has said what follows. */
function timersRow({ timers }: Status): Row[] {
  if (!timers || (timers.cutBy === 'drain-timeout' && timers.killBy === 'kill_timeout')) return [];
  return [{ label: 'timers', text: describeTimeline(timers) }];
}

/** What went wrong last. */
export function errorRows({ lastError }: Status): Row[] {
  return lastError === null ? [] : [{ label: 'last error', text: lastError, ...BAD }];
}

const NO_LISTENER = 'none: Envoy serves nothing; `pm2-envoy doctor` says why';
/** What comes next in a drain, and what it waits for. */
function waitRows(status: Status): Row[] {
  const { phase, outcome } = status;
  const close = closingIn(status);
  if (close) return [{ label: 'delay', text: [close.long, close.short] }];
  const held = phase === 'wait' && outcome === null ? holdersText(status) : undefined;
  if (!held) return [];
  const text = `${held.held} left`;
  return [{ label: 'waits for', text: held.idle === '' ? text : [`${text}; ${held.idle}`, text] }];
}

/** Who began the drain. */
function originRows({ startedBy }: Status): Row[] {
  return startedBy === null ? [] : [{ label: 'started by', text: describeOrigin(startedBy) }];
}

const WARN = { style: 'warn' } as const;
const BAD = { style: 'bad' } as const;
/** A deadline that is nearer than that is worth a look. */
const NEAR_MS = 30_000;

/** Where the drain is. */
export function phaseRow(status: Status): Row {
  const label = 'phase';
  const of = `(drain of ${status.startedAt})`;
  const now = situationOf(status);
  switch (now.kind) {
    case 'listeners-closed': {
      const text = 'idle, but Envoy’s listeners are closed (`pm2-envoy redeploy`)';
      return { label, text, ...BAD };
    }
    case 'orphaned-drain': {
      const text = 'idle, but another program has failed Envoy’s health check (`pm2-envoy resume`)';
      return { label, text, ...WARN };
    }
    case 'no-envoy':
    case 'starting':
    case 'idle':
      return { label, text: 'idle' };
    case 'draining': {
      if (!now.isAbandoned) return { label, text: `${now.phase} ${of}`, style: 'bold' };
      const text = `${now.phase} ${of}, and no process continues it: \`pm2-envoy shutdown\` does`;
      return { label, text, ...BAD };
    }
    case 'ended': {
      const { durationMs, connectionsLeft, outcome, settings } = status;
      const isIdle = outcome === 'drained' && settings.drainUntil === 'requests';
      const one = isIdle ? 'idle connection' : 'connection';
      const took = durationMs === null ? '' : ` after ${formatDuration(durationMs)}`;
      const rest = connectionsLeft === null ? '' : `, ${counted(connectionsLeft, one)} left then`;
      return { label, text: `${now.outcome}${took}${rest} ${of}`, style: 'bold' };
    }
    default:
      return unreachable(now);
  }
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

/** All that there is to say of it, then less and less. */
function describeEnvoy(envoy: EnvoyStatus, isStarting: boolean): string[] {
  const silent = isStarting ? 'is starting' : 'does not answer';
  const parts = [
    envoy.version === null ? silent : `${envoy.version} ${envoy.state}`,
    envoy.generation === null ? envoy.admin : `generation ${envoy.generation}`,
    ...(envoy.pid === null ? [] : [`pid ${envoy.pid}`]),
    ...(envoy.uptimeSeconds === null ? [] : [`up ${formatDuration(envoy.uptimeSeconds * 1_000)}`]),
    ...(envoy.concurrency ? [counted(envoy.concurrency, 'worker')] : []),
  ];
  return parts.map((_, index) => parts.slice(0, parts.length - index).join(', '));
}

function generationRow(one: GenerationStatus): Row {
  const parts = [
    one.state,
    one.version ?? 'version not known yet',
    `pid ${one.pid}`,
    one.connections === null
      ? 'connections unknown'
      : `${counted(one.connections, 'connection')} open${udpPart(one)}`,
    ...(one.deadline === null ? [] : [`until ${one.deadline} at the latest`]),
    ...(one.paceLeftMs ? [`done in about ${roughly(Math.max(1_000, one.paceLeftMs))}`] : []),
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

/** HTTP/3 connections and UDP sessions among them, where there are listeners for them. */
function udpPart({ udp }: GenerationStatus): string {
  if (udp?.http3 == null) return '';
  return ` (${udp.http3} of HTTP/3, ${udp.sessions ?? 0} of UDP)`;
}

/** The first so many, and how many there are more. */
function atMost(rows: readonly Row[], most: number, noun: string): Row[] {
  const rest = rows.length - most;
  if (rest <= 0) return [...rows];
  const more: Row = { kind: 'item', label: '', text: `and ${counted(rest, `more ${noun}`)}` };
  return [...rows.slice(0, most), ...(most > 1 ? [more] : [])];
}
