import type { ConnectionCount } from '../../admin/stats.js';
import { formatDuration } from '../../config/duration.js';

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

/** The listeners that have connections, those with the most first. */
export function fullest({ byListener }: Pick<ConnectionCount, 'byListener'>): [string, number][] {
  return Object.entries(byListener)
    .filter(([, count]) => count > 0)
    .sort(([, a], [, b]) => b - a);
}
