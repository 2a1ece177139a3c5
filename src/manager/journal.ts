import { randomUUID } from 'node:crypto';
import { formatDuration } from '../config/duration.js';
import { isSameEnvoy, type Located, openGenerationLedger } from '../drain/locate.js';
import type { DrainCommand, DrainResult, DrainState } from '../drain/state.js';
import type { Generation } from '../envoy/generations.js';
import { silentLog } from '../log.js';

/** Something that has happened on this host. */
export interface JournalEntry {
  /** Unique across managers; later entries come later. */
  id: string;
  /** ISO 8601 */
  at: string;
  kind: 'drain' | 'generation' | 'fault';
  /** One line for people. */
  text: string;
}

/** A drain of the host, or a hand-over, that has ended. */
export interface EndedDrain {
  command: DrainCommand;
  /** Of one that was taken back only the outcome is known. */
  result: Pick<DrainResult, 'outcome'> &
    Partial<Pick<DrainResult, 'durationMs' | 'connectionsLeft'>>;
}

/** What has happened lately, whichever process did it: put together from look to look. */
export interface Journal {
  /** Compares with the last look. What was there at the first one has not happened now. */
  note(located: Located | undefined, drain: DrainState): void;
  /** The latest entries, oldest first: those after `id`, or all where that is not among them. */
  entries(afterId?: string): readonly JournalEntry[];
  /** Calls `listener` with each new entry; gives what ends that. */
  onEntry(listener: (entry: JournalEntry) => void): () => void;
}

const MOST_ENTRIES = 200;

/** Creates an empty journal. */
export function createJournal(options: { onEnded?: (ended: EndedDrain) => void } = {}): Journal {
  const { onEnded } = options;
  const manager = randomUUID().slice(0, 8);
  const entries: JournalEntry[] = [];
  const listeners = new Set<(entry: JournalEntry) => void>();
  const ended = new Set<string>();
  let count = 0;
  let last: Seen | undefined;

  const add = (kind: JournalEntry['kind'], text: string): void => {
    count += 1;
    const entry = { id: `${manager}-${count}`, at: new Date().toISOString(), kind, text };
    entries.push(entry);
    if (entries.length > MOST_ENTRIES) entries.shift();
    for (const listener of listeners) listener(entry);
  };
  /** Found again, in a later look, it is no news. */
  const end: Pen['end'] = (command, startedAt, result) => {
    if (ended.has(`${command} ${startedAt}`)) return;
    ended.add(`${command} ${startedAt}`);
    add('drain', describeEnd(command, result));
    onEnded?.({ command, result });
  };

  return {
    note: (located, drain) => {
      const now = see(located, drain);
      if (last) compare(last, now, { add, end });
      else if (drain.kind === 'ended') ended.add(`shutdown ${drain.result.startedAt}`);
      last = now;
    },
    entries: (afterId) => {
      const at = entries.findIndex(({ id }) => id === afterId);
      return entries.slice(at + 1);
    },
    onEntry: (listener) => {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
  };
}

function describeEnd(command: DrainCommand, result: EndedDrain['result']): string {
  const what = command === 'shutdown' ? 'the drain' : 'the hand-over';
  const { outcome, durationMs = 0, connectionsLeft: left } = result;
  if (outcome === 'cancelled') return `${what} was taken back`;
  return `${what} ended: ${outcome} after ${formatDuration(durationMs)}, ${left ?? 'unknown'} connections left`;
}

interface Seen {
  located: Located | undefined;
  drain: DrainState;
  generations: readonly SeenGeneration[];
}

interface SeenGeneration {
  generation: Generation;
  state: 'starting' | 'serving' | 'handing over';
}

interface Pen {
  add(kind: JournalEntry['kind'], text: string): void;
  end(command: DrainCommand, startedAt: string, result: EndedDrain['result']): void;
}

function see(located: Located | undefined, drain: DrainState): Seen {
  const generations = (located?.targets ?? []).flatMap(({ generation }) =>
    generation ? [{ generation, state: stateOf(generation) }] : [],
  );
  return { located, drain, generations };
}

function stateOf(generation: Generation): SeenGeneration['state'] {
  if (!generation.ready) return 'starting';
  const handover = openGenerationLedger(generation, 'handover', silentLog).read();
  return handover ? 'handing over' : 'serving';
}

function compare(before: Seen, now: Seen, pen: Pen): void {
  for (const one of now.generations) compareGeneration(before, one, pen);
  compareDrain(before, now, pen);
  for (const { generation } of before.generations) {
    const isHere = now.generations.some((one) => one.generation.number === generation.number);
    if (!isHere) sayEnded(generation, pen);
  }
}

function compareGeneration(before: Seen, { generation, state }: SeenGeneration, pen: Pen): void {
  const { number, version, failedReload } = generation;
  const known = before.generations.find((one) => one.generation.number === number);
  if (state !== known?.state) {
    const envoy = version ? ` (Envoy ${version})` : '';
    pen.add('generation', `generation ${number} is ${state}${envoy}`);
  }
  if (failedReload && failedReload.at !== known?.generation.failedReload?.at) {
    pen.add('fault', `a reload failed: ${failedReload.reason}`);
  }
}

function compareDrain(before: Seen, now: Seen, pen: Pen): void {
  const [was, is] = [before.drain, now.drain];
  sayTakenBack(before, now, pen);
  if (is.kind === 'ended') pen.end('shutdown', is.result.startedAt, is.result);
  if (is.kind === 'draining') {
    const isKnown =
      was.kind === 'draining' && was.startedAt === is.startedAt && was.phase === is.phase;
    if (!isKnown) pen.add('drain', `the drain is at ${is.phase}`);
  }
}

function sayTakenBack(before: Seen, now: Seen, pen: Pen): void {
  const [was, is] = [before.drain, now.drain];
  if (was.kind !== 'draining' || startOf(is) === was.startedAt) return;
  const { located } = before;
  const isSame = located && now.located && isSameEnvoy(located, now.located);
  if (isSame) pen.end('shutdown', was.startedAt, { outcome: 'cancelled' });
}

function startOf(drain: DrainState): string | undefined {
  if (drain.kind === 'idle') return undefined;
  return drain.kind === 'ended' ? drain.result.startedAt : drain.startedAt;
}

/** Whoever led its drain may have ended it between two looks: its records say how. */
function sayEnded(generation: Generation, pen: Pen): void {
  for (const command of ['handover', 'shutdown'] as const) {
    const { result } = openGenerationLedger(generation, command, silentLog).read() ?? {};
    if (result) pen.end(command, result.startedAt, result);
  }
  pen.add('generation', `generation ${generation.number} has ended`);
}
