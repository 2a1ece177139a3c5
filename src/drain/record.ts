import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { isSameStart } from '../admin/server-info.js';
import { messageOf, systemCodeOf } from '../errors.js';
import { createJson, namesIn, probeWrite, readJson, writeJson } from '../host/files.js';
import {
  conditionOf,
  ownIdentity,
  type ProcessIdentity,
  sameProcess,
} from '../host/process-identity.js';
import type { Log } from '../log.js';
import { isRecord, isResult, RECORD_VERSION } from './record-format.js';
import type { DrainCourse, DrainPhase, DrainResult } from './state.js';

/**
 * A drain as manager, runner and CLI share it: small files in the run directory. The one that made it
 * *leads*: it calls Envoy and runs the hooks; the others follow, and one of them takes over when the leader
 * dies.
 */
export interface DrainRecord extends DrainCourse {
  /** Counts up; 0: an earlier version of pm2-envoy wrote it. */
  number: number;
  /** Which of its leaders wrote it, from 1. */
  term: number;
  phase: DrainPhase;
  /** ISO 8601, for people. */
  startedAt: string;
  /** On the monotonic clock, which every process of the machine shares. */
  startedAtMs: number;
  deadlineMs: number;
  /** When `delay` began, on the monotonic clock. */
  delayStartedAtMs?: number;
  connectionsAtStart: number | null;
  leader: ProcessIdentity;
  /** When this leader took over, on the monotonic clock. */
  ledSinceMs?: number;
  /** The Envoys that it is about; more may come while it is under way. */
  envoys: readonly ProcessIdentity[];
  /** When the Envoy started, on the monotonic clock; for one that pm2-envoy did not start. */
  envoyStartedAtMs?: number;
  /** Set once the drain has ended. */
  result?: DrainResult;
  /** The host was brought back after it, although no Envoy was left to resume. */
  isReleased?: boolean;
}

/**
 * What a drain comes to at the point of no return: its listeners are closed, or it is cancelled.
 * The first decision, in any process, holds for all.
 */
export type DrainDecision = 'close' | 'cancel';

/** The place of one drain's records. */
export interface DrainLedger {
  /** The claimed drain's record, or else the newest as it stands; undefined: no drain has begun. */
  read(): DrainRecord | undefined;
  /**
   * Starts a drain with `fresh`, or joins the newest one if that is about the same Envoys; a cancelled one
   * is not joined. `lead` says that this process has to do the work: it made the record, or the leader is
   * gone, or overdue.
   */
  claim(fresh: DrainRecord, nowMs: number): { record: DrainRecord; lead: boolean };
  /**
   * Whether this process still leads the drain that it has claimed: it has not ended, no other process has taken it
   * over, and no later one has started. A record that is gone, or of another drain, says nothing: it was
   * tampered with.
   */
  isLeader(drain: DrainRecord): boolean;
  /** Whether a drain with a higher number has begun, and has not been cancelled. */
  hasLater(number: number): boolean;
  /** Records progress, unless another process has taken over. */
  update(record: DrainRecord): void;
  /** Records how the drain has ended; returns the valid result, which is the first one recorded. */
  finish(record: DrainRecord, result: DrainResult): DrainResult;
  /**
   * Decides, if no process has yet; returns the decision. Undefined: it can't be recorded, so the process that leads
   * would not hear of it.
   */
  decide(decision: DrainDecision): DrainDecision | undefined;
  /** What has been decided. */
  decision(): DrainDecision | undefined;
  /** Records that the host was brought back; false: it can't be recorded. */
  release(): boolean;
  /** Whether something can be written here. */
  isWritable(): boolean;
}

/** How long after the deadline a leader may take to finish before a follower takes over. */
const OVERDUE_MS = 5_000;
/** Ended drains that are kept: the manager counts them, and people read them. */
const KEPT = 20;

/**
 * Opens the records at `base`, a path: `BASE-NUMBER-TERM.json` and, for each number, what was decided and
 * how it ended.
 *
 * There is one leader by construction. Who begins a drain makes the file of the next number, who takes
 * over makes the file of the next term, and a file is made by one process only (link(2)). Each leader writes
 * in the file of its own term alone. The leader is the one that the newest file names. No one removes a
 * record in order to make one.
 *
 * A file that can't be written costs one warning: the drain then continues by itself, without the
 * others knowing of it. A leader that was stopped and goes on may call Envoy once more before it sees
 * its successor. That is harmless: every call to Envoy is idempotent.
 */
export function openLedger(options: {
  base: string;
  log: Log;
  /** Whether a drain is about the Envoys that are here now; unless given, it is. */
  covers?: (record: DrainRecord) => boolean;
  /** What an earlier version of pm2-envoy has written of this host's drain. */
  legacy?: () => DrainRecord | undefined;
  /** Numbers up to this one were in use before. */
  after?: number;
  /**
   * For an Envoy that pm2-envoy did not start: when the live one started (undefined: it could not be
   * asked). The record is compared with it.
   */
  foreign?: { envoyStartedAtMs: number | undefined };
  /** A process that runs, but was found to hang: what it leads is taken over, not followed. */
  hung?: ProcessIdentity | undefined;
  self?: ProcessIdentity;
}): DrainLedger {
  const { log, foreign, hung, covers = () => true, legacy = () => undefined, after = 0 } = options;
  const { self = ownIdentity() } = options;
  const folder = dirname(options.base);
  const name = basename(options.base);
  const envoyStartedAtMs = foreign?.envoyStartedAtMs;
  /** The drain that was claimed here, and the term in which this process leads it. */
  let claimed: { number: number; startedAtMs: number } | undefined;
  let term: number | undefined;
  let decided: DrainDecision | undefined;
  let warned = false;

  const fileOf = (number: number, ending: string): string =>
    join(folder, `${name}-${number}${ending}`);
  const isStale = (record: DrainRecord): boolean => {
    if (record.startedAtMs === claimed?.startedAtMs) return false;
    // The monotonic clock begins at 0 with each boot; a start time names its boot.
    const [its, ours] = [bootOf(record.leader), bootOf(self)];
    if (its !== ours && (foreign !== undefined || (its !== '' && ours !== ''))) return true;
    if (!foreign) return false;
    if (envoyStartedAtMs === undefined || record.envoyStartedAtMs === undefined) {
      // What can't be compared may be joined while it runs, but never says how it ended.
      return record.result !== undefined;
    }
    return !isSameStart(record.envoyStartedAtMs, envoyStartedAtMs);
  };
  const readAt = (found: Place): DrainRecord | undefined => {
    const record = readPlace(folder, name, found);
    return record && !isStale(record) ? record : undefined;
  };
  /** By another process, or by another drainer of this one. */
  const isLedByOther = (record: DrainRecord, nowMs: number): boolean =>
    !sameProcess(record.leader, hung) &&
    conditionOf(record.leader) === 'running' &&
    !isOverdue(record, nowMs);
  const newest = (): Place | undefined => placesIn(folder, name).at(-1);
  const own = (): DrainRecord | undefined => {
    if (!claimed) return undefined;
    const { number } = claimed;
    const place = placesIn(folder, name).find((one) => one.number === number);
    return place && readAt(place);
  };
  const read = (): DrainRecord | undefined => {
    if (claimed) return own();
    const place = newest();
    return place ? readAt(place) : legacy();
  };
  const hasLater = (number: number): boolean => {
    const latest = newest();
    if (!latest || latest.number <= number) return false;
    const later = readAt(latest);
    return later !== undefined && later.result?.outcome !== 'cancelled';
  };
  const tryTo = <T>(write: () => T): T | undefined => {
    try {
      return write();
    } catch (error) {
      if (!warned)
        log.warn(`the drain record can't be written (${messageOf(error)}): draining without it`);
      warned = true;
      return undefined;
    }
  };
  /** Makes the file of a term; undefined: it can't be written, false: another process has made it. */
  const make = (record: DrainRecord): boolean | undefined =>
    tryTo(() => {
      makeFolder(folder);
      return createJson(fileOf(record.number, `-${record.term}.json`), written(record));
    });
  const written = ({ result: _, isReleased: __, ...record }: DrainRecord): object => ({
    version: RECORD_VERSION,
    ...record,
    ...(envoyStartedAtMs === undefined ? {} : { envoyStartedAtMs }),
  });
  const lead = (record: DrainRecord): { record: DrainRecord; lead: true } => {
    claimed = { number: record.number, startedAtMs: record.startedAtMs };
    term = record.term;
    return { record, lead: true };
  };
  const isJoinable = (record: DrainRecord): boolean =>
    record.result?.outcome !== 'cancelled' && !record.isReleased && covers(record);

  return {
    read,
    claim: (fresh, nowMs) => {
      for (;;) {
        // One look for all: who chose a number by a later look than the record would pass one over.
        const seen = namesIn(folder);
        const latest = placesAmong(seen, name).at(-1);
        // A drain that this process follows may have been succeeded by a later one.
        const isSucceeded = claimed !== undefined && (latest?.number ?? 0) > claimed.number;
        const known = own();
        if (known?.result) return { record: known, lead: false };
        const found = latest ? readAt(latest) : legacy();
        const joined = known && !isSucceeded ? known : found;
        const isKnown = joined !== undefined && joined.number === claimed?.number;
        if (joined && (isKnown || isJoinable(joined))) {
          if (joined.result) return { record: joined, lead: false };
          if (joined.number > 0) {
            const isOwnTerm = isKnown && term === joined.term;
            if (!isKnown) {
              decided = undefined;
              term = undefined;
            }
            claimed = { number: joined.number, startedAtMs: joined.startedAtMs };
            if (!isOwnTerm && isLedByOther(joined, nowMs)) return { record: joined, lead: false };
            const taken = { ...joined, leader: self, term: joined.term + 1, ledSinceMs: nowMs };
            const made = make(taken);
            if (made === false) continue;
            return lead(taken);
          }
        }
        // The clock of a drain that an earlier version leads holds here as well.
        const clock = joined?.number === 0 && isJoinable(joined) ? clockOf(joined) : {};
        const number = Math.max(highestAmong(seen, name), after) + 1;
        const first = { ...fresh, ...clock, leader: self, number, term: 1 };
        const made = make(first);
        if (made === false) continue;
        if (claimed) decided = undefined;
        if (made === undefined) {
          // Not recorded: no number is its own.
          claimed = undefined;
          term = undefined;
          return { record: first, lead: true };
        }
        return lead(first);
      }
    },
    hasLater,
    isLeader: ({ startedAtMs }) => {
      // Who could not write takes no orders from what others have written: it drains by itself.
      if (warned || !claimed) return true;
      if (hasLater(claimed.number)) return false;
      const record = own();
      if (record?.startedAtMs !== startedAtMs) return true;
      return !record.result && record.term === term;
    },
    update: (record) => {
      const current = claimed && own();
      if (current?.result || (current && current.term !== term)) return;
      if (claimed && term !== undefined) {
        const { number } = claimed;
        const file = fileOf(number, `-${term}.json`);
        tryTo(() => writeJson(file, written({ ...record, number, term: term ?? 1 })));
        return;
      }
      const number = Math.max(highestAmong(namesIn(folder), name), after) + 1;
      const first = { ...record, number, term: 1 };
      if (make(first)) lead(first);
    },
    finish: (record, result) => {
      if (!claimed) return result;
      const { number } = claimed;
      const file = fileOf(number, '.result.json');
      tryTo(() => createJson(file, { ...result, startedAtMs: record.startedAtMs }));
      return own()?.result ?? result;
    },
    decide: (decision) => {
      const number = claimed?.number ?? newest()?.number;
      // This process leads a drain that could not be recorded, or no one leads one.
      const isAlone = claimed === undefined && (warned || number === undefined);
      if (!isAlone && number !== undefined) {
        const file = fileOf(number, '.decision.json');
        tryTo(() => createJson(file, { decision, by: self }));
        decided ??= readDecision(file);
      }
      if (isAlone || term !== undefined) decided ??= decision;
      return decided;
    },
    decision: () => {
      const number = claimed?.number ?? (warned ? undefined : newest()?.number);
      if (number !== undefined) decided ??= readDecision(fileOf(number, '.decision.json'));
      return decided;
    },
    release: () => {
      const number = claimed?.number ?? newest()?.number;
      if (number === undefined) return false;
      const file = fileOf(number, '.released.json');
      return tryTo(() => createJson(file, { by: self }) || true) === true;
    },
    isWritable: () => {
      try {
        makeFolder(folder);
        probeWrite(folder, 2);
        return true;
      } catch {
        return false;
      }
    },
  };
}

/** The newest drain below `base`, whichever Envoy it is of; undefined: there is none that can be read. */
export function readNewest(base: string): DrainRecord | undefined {
  const place = placesIn(dirname(base), basename(base)).at(-1);
  return place && readPlace(dirname(base), basename(base), place);
}

/** Every drain below `base` that can be read, oldest first. */
export function readAll(base: string): DrainRecord[] {
  const [folder, name] = [dirname(base), basename(base)];
  return placesIn(folder, name).flatMap((place) => readPlace(folder, name, place) ?? []);
}

/** Removes what is left of all drains below `base` but the newest; a number is never given again. */
export function pruneRecords(base: string): void {
  const [folder, name] = [dirname(base), basename(base)];
  const old = new Set(
    placesIn(folder, name)
      .slice(0, -KEPT)
      .map(({ number }) => number),
  );
  if (old.size === 0) return;
  for (const file of readdirSync(folder)) {
    const number = new RegExp(`^${name}-(\\d+)[-.]`).exec(file)?.[1];
    if (number !== undefined && old.has(Number(number)))
      rmSync(join(folder, file), { force: true });
  }
}

/** Where the latest term of a drain is recorded. */
interface Place {
  number: number;
  term: number;
}

/** In the order of their numbers. */
function placesIn(folder: string, name: string): Place[] {
  return placesAmong(namesIn(folder), name);
}

function placesAmong(files: readonly string[], name: string): Place[] {
  const terms = new Map<number, number>();
  for (const file of files) {
    if (!file.startsWith(`${name}-`)) continue;
    const [, number, term] = /^(\d+)-(\d+)\.json$/.exec(file.slice(name.length + 1)) ?? [];
    if (number === undefined) continue;
    terms.set(Number(number), Math.max(Number(term), terms.get(Number(number)) ?? 0));
  }
  return [...terms].map(([number, term]) => ({ number, term })).sort((a, b) => a.number - b.number);
}

/** The highest number that any file here has, such as a decision whose record is gone. */
function highestAmong(files: readonly string[], name: string): number {
  const numbers = files
    .filter((file) => file.startsWith(`${name}-`) && file.endsWith('.json'))
    .map((file) => Number.parseInt(file.slice(name.length + 1), 10));
  return Math.max(0, ...numbers.filter(Number.isInteger));
}

function readPlace(folder: string, name: string, { number, term }: Place): DrainRecord | undefined {
  const file = (ending: string): string => join(folder, `${name}-${number}${ending}`);
  const json = readJson(file(`-${term}.json`));
  if (json?.['version'] !== RECORD_VERSION || !isRecord(json)) return undefined;
  const { version: _, ...record } = json as unknown as DrainRecord & { version: number };
  const ended = readJson(file('.result.json'));
  const isItsOwn = ended?.['startedAtMs'] === record.startedAtMs && isResult(ended);
  const { startedAtMs: __, ...result } = (ended ?? {}) as unknown as DrainResult & {
    startedAtMs?: number;
  };
  return {
    ...record,
    number,
    term,
    ...(isItsOwn ? { result } : {}),
    ...(readJson(file('.released.json')) ? { isReleased: true } : {}),
  };
}

/** Not recursively: Node 20 never comes back from that below a folder that refuses with ENOENT, as /proc does. */
function makeFolder(folder: string): void {
  try {
    mkdirSync(folder, { mode: 0o700 });
  } catch (error) {
    if (systemCodeOf(error) !== 'EEXIST') throw error;
  }
}

function readDecision(file: string): DrainDecision | undefined {
  const { decision } = (readJson(file) ?? {}) as { decision?: unknown };
  return decision === 'close' || decision === 'cancel' ? decision : undefined;
}

/** Where a drain is, and until when it may take. */
function clockOf(record: DrainRecord): Partial<DrainRecord> {
  const { phase, startedAt, startedAtMs, deadlineMs, delayStartedAtMs, connectionsAtStart } =
    record;
  const delay = delayStartedAtMs === undefined ? {} : { delayStartedAtMs };
  return { phase, startedAt, startedAtMs, deadlineMs, connectionsAtStart, ...delay };
}

function isOverdue(record: DrainRecord, nowMs: number): boolean {
  // Who takes over gets the same time.
  return nowMs >= Math.max(record.deadlineMs, record.ledSinceMs ?? 0) + OVERDUE_MS;
}

function bootOf({ startTime }: ProcessIdentity): string {
  // Only Linux counts from the boot, and names it; elsewhere a start time is a date.
  return /^[0-9a-f]{8}(?=:\d+$)/.exec(startTime)?.[0] ?? '';
}
