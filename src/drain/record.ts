import { isSameStart } from '../admin/server-info.js';
import {
  conditionOf,
  ownIdentity,
  type ProcessIdentity,
  sameProcess,
} from '../host/process-identity.js';
import type { Log } from '../log.js';
import { openRecordFiles, type Place, type RecordFiles } from './record-files.js';
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
   * Records how a drain has ended that no process leads any more.
   *
   * @returns whether that, or the like, is how it has ended
   */
  settle(record: DrainRecord, result: DrainResult, nowMs: number): boolean;
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
  const envoyStartedAtMs = foreign?.envoyStartedAtMs;
  const extra = envoyStartedAtMs === undefined ? {} : { envoyStartedAtMs };
  const files = openRecordFiles({ base: options.base, after, extra, log });
  const hold: Hold = { claimed: undefined, term: undefined, decided: undefined };
  const view = createView({ files, hold, legacy, self, foreign });
  const ledger = { files, hold, self, hung };
  const isJoinable = (record: DrainRecord): boolean =>
    record.result?.outcome !== 'cancelled' && !record.isReleased && covers(record);

  return {
    read: view.read,
    hasLater: view.hasLater,
    ...createDecisions(ledger),
    ...createEnds(ledger, view),
    isWritable: files.isWritable,
    claim: (fresh, nowMs) => {
      for (;;) {
        const { latest, next } = files.look();
        // A drain that this process follows may have been succeeded by a later one.
        const isSucceeded =
          hold.claimed !== undefined && (latest?.number ?? 0) > hold.claimed.number;
        const known = view.own();
        if (known?.result) return { record: known, lead: false };
        const found = latest ? view.readAt(latest) : legacy();
        const joined = known && !isSucceeded ? known : found;
        const isJoined = joined && (joined.number === hold.claimed?.number || isJoinable(joined));
        if (isJoined && joined.result) return { record: joined, lead: false };
        const claim =
          isJoined && joined.number > 0
            ? follow(joined, nowMs, ledger)
            : // The clock of a drain that an earlier version leads holds here as well.
              begin({ ...fresh, ...(isJoined ? clockOf(joined) : {}), number: next }, ledger);
        if (claim) return claim;
      }
    },
    isLeader: ({ startedAtMs }) => {
      const { claimed, term } = hold;
      // Who could not write takes no orders from what others have written: it drains by itself.
      if (files.hasFailed || !claimed) return true;
      if (view.hasLater(claimed.number)) return false;
      const record = view.own();
      if (record?.startedAtMs !== startedAtMs) return true;
      return !record.result && record.term === term;
    },
    update: (record) => {
      const { claimed, term } = hold;
      const current = view.own();
      if (current?.result || (current && current.term !== term)) return;
      if (claimed && term !== undefined) {
        files.updateTerm({ ...record, number: claimed.number, term });
        return;
      }
      const first = { ...record, number: files.look().next, term: 1 };
      if (files.makeTerm(first)) lead(first, hold);
    },
  };
}

/** The drain that a process has claimed. */
interface Hold {
  claimed: { number: number; startedAtMs: number } | undefined;
  /** The term in which this process leads it; undefined: it follows. */
  term: number | undefined;
  /** What has been decided, as far as this process knows. */
  decided: DrainDecision | undefined;
}

/** What a claim is made with. */
interface Ledger {
  files: RecordFiles;
  hold: Hold;
  self: ProcessIdentity;
  hung: ProcessIdentity | undefined;
}

type Claim = ReturnType<DrainLedger['claim']>;

function lead(record: DrainRecord, hold: Hold): Claim {
  hold.claimed = { number: record.number, startedAtMs: record.startedAtMs };
  hold.term = record.term;
  return { record, lead: true };
}

/** Follows the one that leads, or takes over from it; undefined: another process has just done that. */
function follow(joined: DrainRecord, nowMs: number, ledger: Ledger): Claim | undefined {
  const { files, hold, self, hung } = ledger;
  const isKnown = joined.number === hold.claimed?.number;
  const isOwnTerm = isKnown && hold.term === joined.term;
  if (!isKnown) {
    hold.decided = undefined;
    hold.term = undefined;
  }
  hold.claimed = { number: joined.number, startedAtMs: joined.startedAtMs };
  const isLed =
    !sameProcess(joined.leader, hung) &&
    conditionOf(joined.leader) === 'running' &&
    !isOverdue(joined, nowMs);
  // By another process, or by another drainer of this one.
  if (!isOwnTerm && isLed) return { record: joined, lead: false };
  const taken = { ...joined, leader: self, term: joined.term + 1, ledSinceMs: nowMs };
  return files.makeTerm(taken) === false ? undefined : lead(taken, hold);
}

/** Leads a new drain; undefined: another process has just begun one. */
function begin(fresh: DrainRecord, { files, hold, self }: Ledger): Claim | undefined {
  const first = { ...fresh, leader: self, term: 1 };
  const made = files.makeTerm(first);
  if (made === false) return undefined;
  if (hold.claimed) hold.decided = undefined;
  if (made) return lead(first, hold);
  // Not recorded: no number is its own.
  hold.claimed = undefined;
  hold.term = undefined;
  return { record: first, lead: true };
}

/** The records as this process has to take them. */
interface View {
  readAt(place: Place): DrainRecord | undefined;
  /** The claimed drain's. */
  own(): DrainRecord | undefined;
  read(): DrainRecord | undefined;
  hasLater(number: number): boolean;
}

function createView(from: {
  files: RecordFiles;
  hold: Hold;
  legacy: () => DrainRecord | undefined;
  self: ProcessIdentity;
  foreign: { envoyStartedAtMs: number | undefined } | undefined;
}): View {
  const { files, hold, legacy, self, foreign } = from;
  const isStale = (record: DrainRecord): boolean => {
    if (record.startedAtMs === hold.claimed?.startedAtMs) return false;
    // The monotonic clock begins at 0 with each boot; a start time names its boot.
    const [its, ours] = [bootOf(record.leader), bootOf(self)];
    if (its !== ours && (foreign !== undefined || (its !== '' && ours !== ''))) return true;
    if (!foreign) return false;
    if (foreign.envoyStartedAtMs === undefined || record.envoyStartedAtMs === undefined) {
      // What can't be compared may be joined while it runs, but never says how it ended.
      return record.result !== undefined;
    }
    return !isSameStart(record.envoyStartedAtMs, foreign.envoyStartedAtMs);
  };
  const readAt = (place: Place): DrainRecord | undefined => {
    const record = files.read(place);
    return record && !isStale(record) ? record : undefined;
  };
  const own = (): DrainRecord | undefined => {
    const place = hold.claimed && files.find(hold.claimed.number);
    return place && readAt(place);
  };
  return {
    readAt,
    own,
    read: () => {
      if (hold.claimed) return own();
      const { latest } = files.look();
      return latest ? readAt(latest) : legacy();
    },
    hasLater: (number) => {
      const { latest } = files.look();
      if (!latest || latest.number <= number) return false;
      const later = readAt(latest);
      return later !== undefined && later.result?.outcome !== 'cancelled';
    },
  };
}

function createDecisions({
  files,
  hold,
  self,
}: Ledger): Pick<DrainLedger, 'decide' | 'decision' | 'release'> {
  const newest = (): number | undefined => hold.claimed?.number ?? files.look().latest?.number;
  return {
    decide: (decision) => {
      const number = newest();
      // This process leads a drain that could not be recorded, or no one leads one.
      const isAlone = !hold.claimed && (files.hasFailed || number === undefined);
      if (!isAlone && number !== undefined) {
        files.make(number, 'decision', { decision, by: self });
        hold.decided ??= files.decision(number);
      }
      if (isAlone || hold.term !== undefined) hold.decided ??= decision;
      return hold.decided;
    },
    decision: () => {
      const number = hold.claimed || !files.hasFailed ? newest() : undefined;
      if (number !== undefined) hold.decided ??= files.decision(number);
      return hold.decided;
    },
    release: () => {
      const number = newest();
      return number !== undefined && files.make(number, 'released', { by: self }) !== undefined;
    },
  };
}

function createEnds(ledger: Ledger, view: View): Pick<DrainLedger, 'finish' | 'settle'> {
  const { files, hold } = ledger;
  const finish: DrainLedger['finish'] = (record, result) => {
    if (!hold.claimed) return result;
    const content = { ...result, startedAtMs: record.startedAtMs };
    files.make(hold.claimed.number, 'result', content);
    return view.own()?.result ?? result;
  };
  return {
    finish,
    settle: (record, result, nowMs) => {
      // It may have been settled since the record was read.
      const known = view.read();
      if (known?.number === record.number && known.result) {
        return known.result.outcome === result.outcome;
      }
      if (!follow(record, nowMs, ledger)?.lead) return false;
      return finish(record, result).outcome === result.outcome;
    },
  };
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
