import { describeFailedStart } from '../../host/failed-start.js';
import { isComingUp, isDraining } from '../../status/situation.js';
import type { Status } from '../../status/status.js';
import { closingIn, fullest, holdersText, kindsOf, left, roughly } from './words.js';

/** What is said of a status in a line of its own. */
export interface PlainLine {
  /** What makes a line worth printing when it has changed. */
  text: string;
  /** What changes all the time: times and rates. */
  more: string;
}

/** The drain in one line: `wait: 4 of 10 connections open (3 websocket, 1 tcp)`. */
export function drainLine(status: Status): PlainLine {
  const { phase, connections, connectionsAtStart, timeLeftMs, paceLeftMs } = status;
  const rate = status.newConnectionsPerSecond;
  const parts = [
    ...(timeLeftMs === null ? [] : [`at most ${left(timeLeftMs)} left`]),
    ...(paceLeftMs === null ? [] : [`about ${roughly(Math.max(1_000, paceLeftMs))} at this pace`]),
    ...(rate === null || phase === 'wait' ? [] : [`${rate} new a second`]),
    ...(phase === 'wait' ? holdersOf(status) : []),
  ];
  const held = phase === 'wait' ? holdersText(status) : undefined;
  const close = closingIn(status);
  const text = held
    ? `${phase}: ${held.held} left, ${openOf(connections, null)}`
    : `${phase}: ${openOf(connections, connectionsAtStart)}`;
  return { text, more: [...(close ? [close.short] : []), ...parts].join(', ') };
}

/** Chooses what of a drain is said in lines. */
export interface DrainLines {
  /** The lines that a look is worth: a new phase; in `wait`, now and then, another number of connections. */
  next(status: Status, nowMs: number): PlainLine[];
}

/** In `wait`, lines are at least so far apart. */
const APART_MS = 10_000;

/** Creates it, for one drain. */
export function createDrainLines(): DrainLines {
  let phase = '';
  let said = '';
  let saidAtMs = 0;
  let note: string | undefined;
  return {
    next: (status, nowMs) => {
      const line = drainLine(status);
      const isNew = status.phase !== phase;
      const isDue = status.phase === 'wait' && nowMs - saidAtMs >= APART_MS;
      if (!isNew && !(isDue && line.text !== said)) return [];
      phase = status.phase;
      said = line.text;
      saidAtMs = nowMs;
      if (note !== undefined || status.phase !== 'wait') return [line];
      note = peersNote(status);
      return note === undefined ? [line] : [line, plainText(note)];
    },
  };
}

/** Envoy and its drain in one line. */
export function watchLine(status: Status): PlainLine {
  const { phase, outcome, envoy, generations, failedStart, lastError } = status;
  const serves = envoy && !isComingUp(status);
  const where = serves && envoy.generation !== null ? ` (generation ${envoy.generation})` : '';
  const says = !serves ? 'no Envoy' : `Envoy ${envoy.version ?? ''} ${envoy.state ?? 'silent'}`;
  const drain = isDraining(status) ? drainLine(status) : undefined;
  const open = openOf(status.connections, null);
  const parts = [
    drain ? drain.text : `${outcome ?? phase}: ${open}`,
    `${says.replace(/ +/g, ' ')}${where}`,
    ...(envoy?.listeners === 0 ? ['no listener: it serves nothing'] : []),
    ...(status.listenersClosed ? ['its listeners are closed'] : []),
    ...(status.orphanedDrain ? ['another program has failed its health check'] : []),
    ...(status.abandonedDrain ? ['no process continues the drain'] : []),
    ...generations
      .filter(({ state }) => state === 'starting' || state === 'handing-over')
      .map(({ number, state, connections }) =>
        state === 'starting'
          ? `generation ${number} is starting`
          : `generation ${number} hands over with ${connections ?? 'an unknown number of'} open`,
      ),
    ...(failedStart === null ? [] : [describeFailedStart(failedStart)]),
    ...(lastError === null ? [] : [lastError]),
  ];
  const rate = status.newConnectionsPerSecond;
  const idle = rate === null ? '' : `${rate} new a second`;
  return { text: parts.join(', '), more: drain?.more ?? idle };
}

/** Why peers can't be shown; said once, as it does not change. */
export function peersNote({ oldestPeers, oldestPeersNote, lastError }: Status): string | undefined {
  if (oldestPeers !== null || oldestPeersNote === null || oldestPeersNote === lastError) {
    return undefined;
  }
  return `oldest peers unknown: ${oldestPeersNote}`;
}

/** A plain line as it is printed: in one piece, and without control characters. */
export function stamped({ text, more }: PlainLine, at: Date): string {
  const line = more === '' ? text : `${text}; ${more}`;
  return `${at.toISOString()} ${line.replace(/[\p{Cc}\u2028\u2029]+/gu, ' ')}`;
}

/** A text for `stamped` that has no times in it. */
export function plainText(text: string): PlainLine {
  return { text, more: '' };
}

function openOf(connections: Status['connections'], atStart: number | null): string {
  if (!connections) return 'connections unknown';
  const { open } = connections;
  const of = atStart === null || atStart < open ? '' : ` of ${atStart}`;
  const kinds = kindsOf(connections);
  return `${open}${of} open${kinds === '' ? '' : ` (${kinds})`}`;
}

function holdersOf({ connections, oldestPeers }: Status): string[] {
  const listeners = connections ? fullest(connections).slice(0, 3) : [];
  const [oldest] = oldestPeers ?? [];
  return [
    ...listeners.map(([name, count]) => `${count} on ${name}`),
    ...(oldest ? [`oldest ${oldest.peer}, seen for ${roughly(oldest.seenForMs)}`] : []),
  ];
}
