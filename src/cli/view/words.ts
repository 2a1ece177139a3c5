import type { ConnectionCount } from '../../admin/stats.js';
import { formatDuration } from '../../config/duration.js';
import type { Status } from '../../status/status.js';

/** `1 connection`, `2 connections`. */
export function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

/** A time in few words: whole seconds, and whole minutes from an hour on. */
export function roughly(ms: number): string {
  if (ms < 1_000) return '<1s';
  const unitMs = ms < 3_600_000 ? 1_000 : 60_000;
  return formatDuration(Math.round(ms / unitMs) * unitMs);
}

/** The same of a time that is left, which may be over. */
export function left(ms: number): string {
  return ms <= 0 ? '0s' : roughly(ms);
}

/** The time of day, on this machine's clock: `20:34:41`. */
export function clockTime(iso: string): string {
  const date = new Date(iso);
  return Number.isNaN(date.getTime()) ? iso : date.toTimeString().slice(0, 8);
}

/** `3 websocket, 1 tcp`; empty: there is none. */
export function kindsOf({ byKind }: Pick<ConnectionCount, 'byKind'>): string {
  return Object.entries(byKind)
    .filter(([, count]) => count > 0)
    .map(([kind, count]) => `${count} ${kind}`)
    .join(', ');
}

/** What a drain that waits for requests alone still waits for, and what does not hold it; undefined: not known. */
export function holdersText({
  settings,
  holding,
  activeRequests,
  connections,
}: Status): { held: string; idle: string } | undefined {
  if (settings.drainUntil !== 'requests' || holding === null || !connections) return undefined;
  const { tcp, udp } = connections.byKind;
  const requests = activeRequests ?? holding;
  const held = [
    ...(requests > 0 || tcp + udp === 0 ? [counted(requests, 'request')] : []),
    ...(tcp > 0 ? [counted(tcp, 'TCP connection')] : []),
    ...(udp > 0 ? [counted(udp, 'UDP session')] : []),
  ].join(' and ');
  return { held, idle: idleText(Math.max(0, connections.open - holding)) };
}

function idleText(idle: number): string {
  if (idle === 0) return '';
  return `${counted(idle, 'idle connection')} ${idle === 1 ? 'does' : 'do'} not hold it`;
}

/** How long until the listeners close, and what that means; undefined outside of the delay. */
export function closingIn({
  listenersCloseAt,
  deadline,
  timeLeftMs,
}: Status): { short: string; long: string } | undefined {
  if (listenersCloseAt === null || deadline === null || timeLeftMs === null) return undefined;
  // Both were made at the same moment, by the clock that made the third.
  const nowMs = Date.parse(deadline) - timeLeftMs;
  const leftMs = Date.parse(listenersCloseAt) - nowMs;
  if (Number.isNaN(leftMs)) return undefined;
  const short = `listeners close in ${left(leftMs)}`;
  return { short, long: `${short}; until then: \`pm2-envoy resume\`` };
}

/** The listeners that have connections, those with the most first. */
export function fullest({ byListener }: Pick<ConnectionCount, 'byListener'>): [string, number][] {
  return Object.entries(byListener)
    .filter(([, count]) => count > 0)
    .sort(([, a], [, b]) => b - a);
}
