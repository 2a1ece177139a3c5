import { randomUUID } from 'node:crypto';
import { formatDuration } from '../config/duration.js';
import { type EndedDrain, endOfShutdown } from '../drain/ends.js';
import { isSameEnvoy, type Located, openHandoverLedger } from '../drain/locate.js';
import { type DrainPhase, type DrainState, describeOrigin } from '../drain/state.js';
import type { Generation } from '../host/generations.js';
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

/** What has happened lately, whichever process did it: put together from look to look. */
export interface Journal {
  /**
   * Compares with the last look. What was there at the first one has not happened now.
   *
   * @param open connections, as far as they were counted lately
   */
  note(located: Located | undefined, drain: DrainState, open?: number): void;
  /** The latest entries, oldest first: those after `id`, or all where that is not among them. */
  entries(afterId?: string): readonly JournalEntry[];
  /** Calls `listener` with each new entry; returns what ends that. */
  onEntry(listener: (entry: JournalEntry) => void): () => void;
}

const MOST_ENTRIES = 200;

/** Creates an empty journal. */
export function createJournal(
  options: {
    /** What is recorded of drains that have ended, however long ago. */
    readEnds?: () => readonly EndedDrain[];
    /** Told once of each drain and hand-over that has ended; of those before the first look, too. */
    onEnded?: (ended: EndedDrain) => void;
    /** The same of reloads that have failed; `at` is an ISO 8601 instant. */
    onFailedReload?: (at: string) => void;
  } = {},
): Journal {
  const { readEnds = () => [], onEnded, onFailedReload } = options;
  const manager = randomUUID().slice(0, 8);
  const entries: JournalEntry[] = [];
  const listeners = new Set<(entry: JournalEntry) => void>();
  const known = new Set<string>();
  let count = 0;
  let last: Seen | undefined;

  const add: Add = (kind, text) => {
    count += 1;
    const entry = { id: `${manager}-${count}`, at: new Date().toISOString(), kind, text };
    entries.push(entry);
    if (entries.length > MOST_ENTRIES) entries.shift();
    for (const listener of listeners) listener(entry);
  };
  /** Found again, in a later look, it is no news. */
  const isNew = (id: string): boolean => {
    const before = known.size;
    return known.add(id).size > before;
  };
  const end = (ended: EndedDrain): void => {
    if (!isNew(ended.id)) return;
    if (last) add('drain', describeEnd(ended));
    onEnded?.(ended);
  };
  const fail = ({ at, reason }: { at: string; reason: string }): void => {
    if (!isNew(`failed reload ${at}`)) return;
    if (last) add('fault', `a reload failed: ${reason}`);
    onFailedReload?.(at);
  };

  return {
    note: (located, drain, open) => {
      const now = see(located, drain);
      for (const ended of [...readEnds(), ...endsBetween(last, now)]) end(ended);
      for (const { generation } of now.generations) {
        if (generation.failedReload) fail(generation.failedReload);
      }
      if (last) compare(last, now, open, add);
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

function describeEnd({ command, result }: EndedDrain): string {
  const what = command === 'shutdown' ? 'the drain' : 'the hand-over';
  const { outcome, durationMs = 0, connectionsLeft: left } = result;
  if (outcome === 'cancelled') return `${what} was cancelled`;
  const rest = `${left ?? 'unknown'} ${left === 1 ? 'connection' : 'connections'}`;
  return `${what} ended: ${outcome} after ${formatDuration(durationMs)}, ${rest} left`;
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

type Add = (kind: JournalEntry['kind'], text: string) => void;

function see(located: Located | undefined, drain: DrainState): Seen {
  const generations = (located?.targets ?? []).flatMap(({ generation }) =>
    generation ? [{ generation, state: stateOf(generation) }] : [],
  );
  return { located, drain, generations };
}

function stateOf(generation: Generation): SeenGeneration['state'] {
  if (!generation.ready) return 'starting';
  const handover = openHandoverLedger(generation, silentLog).read();
  return handover ? 'handing over' : 'serving';
}

/** What a run directory that can't be written does not tell. */
function endsBetween(before: Seen | undefined, { located, drain }: Seen): EndedDrain[] {
  if (drain.kind === 'ended') return [endOfShutdown(drain.result.startedAt, drain.result)];
  const was = before?.drain;
  if (was?.kind !== 'draining' || startOf(drain) === was.startedAt) return [];
  const isSame = before?.located && located && isSameEnvoy(before.located, located);
  return isSame ? [endOfShutdown(was.startedAt, { outcome: 'cancelled' })] : [];
}

function startOf(drain: DrainState): string | undefined {
  return drain.kind === 'draining' ? drain.startedAt : undefined;
}

function compare(before: Seen, now: Seen, open: number | undefined, add: Add): void {
  for (const one of now.generations) compareGeneration(before, one, add);
  compareDrain(before.drain, now.drain, open, add);
  for (const { generation } of before.generations) {
    const isHere = now.generations.some((one) => one.generation.number === generation.number);
    if (!isHere) add('generation', `generation ${generation.number} has ended`);
  }
}

function compareGeneration(before: Seen, { generation, state }: SeenGeneration, add: Add): void {
  const { number, version } = generation;
  const known = before.generations.find((one) => one.generation.number === number);
  if (state === known?.state) return;
  const envoy = version ? ` (Envoy ${version})` : '';
  add('generation', `generation ${number} is ${state}${envoy}`);
}

function compareDrain(was: DrainState, is: DrainState, open: number | undefined, add: Add): void {
  if (is.kind !== 'draining') return;
  const isSame = was.kind === 'draining' && was.startedAt === is.startedAt;
  const by = is.startedBy ? ` by ${describeOrigin(is.startedBy)}` : '';
  if (!isSame) add('drain', `a drain has started${by}: Envoy fails its health check`);
  if (is.phase === 'fail-health' || (isSame && was.phase === is.phase)) return;
  const count =
    open === undefined ? '' : `, ${open} ${open === 1 ? 'connection' : 'connections'} open`;
  add('drain', `${HAPPENED[is.phase]}${count}`);
}

/** What has happened once a drain is at this phase. */
const HAPPENED: Readonly<Record<Exclude<DrainPhase, 'fail-health'>, string>> = {
  delay: 'the health check fails; listeners stay open for load balancers to notice',
  close: 'the delay is over: closing the listeners',
  wait: 'listeners closed',
  finish: 'the wait is over',
};
