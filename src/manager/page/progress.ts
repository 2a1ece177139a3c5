import type { Status } from '../../status/status.js';
import { addReading } from './chart.js';
import type { LogLine, PageState, Snapshot } from './state.js';
import { span } from './words.js';

/** Silence of a stream that speaks at each change, beside a question each three seconds. */
const LATE_MS = 9_000;
const MOST_LINES = 200;

/** The state as the page was made, with the first status that was heard. */
export function begin(snapshot: Snapshot, status: Status): PageState {
  return { ...snapshot, status, heardAtMs: snapshot.nowMs, link: { kind: 'snapshot' } };
}

/** Whether what is shown may no longer be so. */
export function isStale({ link }: Pick<PageState, 'link'>): boolean {
  return link.kind === 'late' || link.kind === 'lost';
}

/** Milliseconds that have passed since the status was true; none where it is not known to go on. */
export function passedMs({ link, nowMs, heardAtMs }: PageState): number {
  return link.kind === 'live' ? Math.max(0, nowMs - heardAtMs) : 0;
}

/** The state after a status was heard. */
export function hear(state: PageState, status: Status, nowMs: number): PageState {
  const heard: PageState = {
    ...state,
    nowMs,
    heardAtMs: nowMs,
    status,
    link: { kind: 'live' },
  };
  const read = noteReading(heard, !isStale(state));
  if (state.link.kind !== 'lost') return read;
  const text = `connected to the manager again, after ${span(nowMs - state.heardAtMs)}`;
  return addLine(read, pageLine(text, nowMs));
}

/** The state after time has passed. */
export function tick(state: PageState, nowMs: number): PageState {
  const isLate = nowMs - state.heardAtMs > LATE_MS;
  const link = state.link.kind === 'live' && isLate ? ({ kind: 'late' } as const) : state.link;
  const next = { ...state, nowMs, link };
  return link.kind === 'live' ? noteReading(next, true) : next;
}

/** The state after the connection was found broken. */
export function lose(state: PageState, reason: string, nowMs: number): PageState {
  const lost: PageState = { ...state, nowMs, link: { kind: 'lost', reason } };
  if (state.link.kind === 'lost') return lost;
  return addLine(lost, pageLine(`connection to the manager lost: ${reason}`, nowMs));
}

/** The state with one more line of the log, unless it is there. */
export function addLine(state: PageState, line: LogLine): PageState {
  if (state.log.some(({ id }) => id === line.id)) return state;
  return { ...state, log: [...state.log, line].slice(-MOST_LINES) };
}

/** Until the next status the count is what it was: the manager tells each change. */
function noteReading(state: PageState, isNext: boolean): PageState {
  const open = state.status.connections?.open;
  if (open === undefined) return state;
  return { ...state, spans: addReading(state.spans, { atMs: state.nowMs, open, isNext }) };
}

function pageLine(text: string, nowMs: number): LogLine {
  return { id: `page-${nowMs}`, at: new Date(nowMs).toISOString(), kind: 'page', text };
}
