import { existsSync, rmSync } from 'node:fs';
import { isSameStart } from '../admin/server-info.js';
import { LONGEST_MS } from '../config/duration.js';
import { messageOf } from '../errors.js';
import { createJson, readJson, writeJson } from '../host/files.js';
import {
  conditionOf,
  ownIdentity,
  type ProcessIdentity,
  sameProcess,
} from '../host/process-identity.js';
import type { Log } from '../log.js';
import { type DrainPhase, type DrainResult, OUTCOMES, SHUTDOWN_EVENTS } from './state.js';

/**
 * A drain as manager, runner and CLI share it: a small file in the run directory, beside the Envoy
 * that it is about. The one that made it *leads*: it calls Envoy and runs the hooks; the others
 * follow, and one of them takes over when the leader dies.
 */
export interface DrainRecord {
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
  /** When the Envoy started, on the monotonic clock; for one that pm2-envoy did not start. */
  envoyStartedAtMs?: number;
  /** Set once the drain has ended. */
  result?: DrainResult;
}

/**
 * What a drain comes to at the point of no return: its listeners are closed, or it is taken back.
 * Whoever decides first, in any process, has decided for all.
 */
export type DrainDecision = 'close' | 'cancel';

/** The place of one drain record. */
export interface DrainLedger {
  /** The record as it stands; undefined: no drain has begun. */
  read(): DrainRecord | undefined;
  /**
   * Starts a drain with `fresh`, or joins the one that is recorded; one that was taken back is not
   * joined. `lead` says that this process has to do the work: it made the record, or the leader is
   * gone, or overdue.
   */
  claim(fresh: DrainRecord, nowMs: number): { record: DrainRecord; lead: boolean };
  /**
   * Whether nothing speaks against this process leading a drain on: it has not ended, and no other process
   * that runs has taken it over. Of those that took over from an overdue leader each may end it. A record
   * that is gone, or of another drain, says nothing: somebody has meddled with it.
   */
  isLeader(drain: DrainRecord, nowMs: number): boolean;
  /** Writes down progress, unless another process has taken over. */
  update(record: DrainRecord): void;
  /** Decides, if nobody has yet; returns what holds. */
  decide(decision: DrainDecision): DrainDecision;
  /** What has been decided. */
  decision(): DrainDecision | undefined;
}

/** How long after the deadline a leader may take to finish before a follower takes over. */
const OVERDUE_MS = 5_000;

/**
 * Opens a drain record.
 *
 * A file that can't be written costs one warning: the drain then goes on by itself, without the
 * others knowing of it. Two processes that take over in the same instant may both lead for a moment, and
 * so may one that was stopped and goes on: until the one that the record does not name looks at it, half a
 * second later or after its call to Envoy. That is harmless, because every call to Envoy is idempotent.
 */
export function openLedger(options: {
  file: string;
  log: Log;
  /**
   * For an Envoy that pm2-envoy did not start: when the live one started (undefined: it could not be
   * asked). The record is compared with it. A generation's record lies in its own folder instead.
   */
  foreign?: { envoyStartedAtMs: number | undefined };
  self?: ProcessIdentity;
}): DrainLedger {
  const { log, foreign, self = ownIdentity() } = options;
  const envoyStartedAtMs = foreign?.envoyStartedAtMs;
  let warned = false;

  let joinedAtMs: number | undefined;
  let attempt: number | undefined;
  let decided: DrainDecision | undefined;

  const base = options.file.replace(/\.json$/, '');
  /** A drain that was taken back leaves its record behind; the next one has a file of its own. */
  const fileOf = (number: number): string =>
    number === 0 ? options.file : `${base}-${number}.json`;
  const decisionFileOf = (number: number): string =>
    `${base}${number === 0 ? '' : `-${number}`}.decision`;
  const latest = (): number => {
    let number = 0;
    while (existsSync(fileOf(number + 1))) number += 1;
    return number;
  };

  const isStale = (record: DrainRecord): boolean => {
    if (!foreign || record.startedAtMs === joinedAtMs) return false;
    // The monotonic clock begins anew with each boot; a start time names its boot.
    if (bootOf(record.leader) !== bootOf(self)) return true;
    if (envoyStartedAtMs === undefined || record.envoyStartedAtMs === undefined) {
      // What can't be compared may be joined while it runs, but never says how it ended.
      return record.result !== undefined;
    }
    return !isSameStart(record.envoyStartedAtMs, envoyStartedAtMs);
  };
  const readAt = (number: number): DrainRecord | undefined => {
    const record = readRecord(fileOf(number));
    return record && !isStale(record) ? record : undefined;
  };
  const read = (): DrainRecord | undefined => readAt(attempt ?? latest());
  const tryTo = (write: () => void): void => {
    try {
      write();
    } catch (error) {
      if (!warned)
        log.warn(`the drain record can't be written (${messageOf(error)}): draining without it`);
      warned = true;
    }
  };

  return {
    read,
    claim: (fresh, nowMs) => {
      const own = envoyStartedAtMs === undefined ? fresh : { ...fresh, envoyStartedAtMs };
      let made = false;
      if (attempt === undefined) {
        const last = latest();
        attempt = readAt(last)?.result?.outcome === 'cancelled' ? last + 1 : last;
        decided = undefined;
      }
      const file = fileOf(attempt);
      const decision = decisionFileOf(attempt);
      if (!read()) {
        tryTo(() => rmSync(file, { force: true }));
        tryTo(() => rmSync(decision, { force: true }));
      }
      tryTo(() => {
        made = createJson(file, own);
      });
      const record = made ? own : read();
      if (made || !record) return { record: own, lead: true };
      joinedAtMs = record.startedAtMs;
      if (record.result || follows(record, self, nowMs)) return { record, lead: false };
      const taken = { ...record, leader: self };
      tryTo(() => writeJson(file, taken));
      return { record: taken, lead: true };
    },
    isLeader: ({ startedAtMs }, nowMs) => {
      // Who could not write takes no orders from what others have written: it drains by itself.
      const record = warned ? undefined : read();
      if (record?.startedAtMs !== startedAtMs) return true;
      return !record.result && !follows(record, self, nowMs);
    },
    update: (record) => {
      const current = read();
      if (current?.result) return;
      // Where all are late the first result counts.
      const endedAtMs = record.startedAtMs + (record.result?.durationMs ?? 0);
      const isOthers = current !== undefined && !sameProcess(current.leader, self);
      if (isOthers && !isOverdue(current, endedAtMs)) return;
      tryTo(() =>
        writeJson(
          fileOf(attempt ?? latest()),
          envoyStartedAtMs === undefined ? record : { ...record, envoyStartedAtMs },
        ),
      );
    },
    decide: (decision) => {
      const file = decisionFileOf(attempt ?? latest());
      tryTo(() => createJson(file, { decision, by: self }));
      decided ??= readDecision(file) ?? decision;
      return decided;
    },
    decision: () => {
      decided ??= readDecision(decisionFileOf(attempt ?? latest()));
      return decided;
    },
  };
}

/** The record in a file, whichever Envoy it is of; undefined when there is none. */
export function readRecord(file: string): DrainRecord | undefined {
  const json = readJson(file);
  return isRecord(json) ? json : undefined;
}

function readDecision(file: string): DrainDecision | undefined {
  const { decision } = (readJson(file) ?? {}) as { decision?: unknown };
  return decision === 'close' || decision === 'cancel' ? decision : undefined;
}

function follows(record: DrainRecord, self: ProcessIdentity, nowMs: number): boolean {
  const leads = !sameProcess(record.leader, self) && conditionOf(record.leader) === 'running';
  return leads && !isOverdue(record, nowMs);
}

function isOverdue(record: DrainRecord, nowMs: number): boolean {
  return nowMs >= record.deadlineMs + OVERDUE_MS;
}

function bootOf({ startTime }: ProcessIdentity): string {
  // Only Linux counts from the boot, and names it; elsewhere a start time is a date.
  return /^[0-9a-f]{8}(?=:\d+$)/.exec(startTime)?.[0] ?? '';
}

/** Whatever a damaged file holds, a part of a record is none. */
function isRecord(json: unknown): json is DrainRecord {
  const record = (json ?? {}) as Partial<DrainRecord>;
  const { startedAtMs, deadlineMs, leader, result } = record;
  return (
    isPhase(record.phase) &&
    typeof record.startedAt === 'string' &&
    isTime(startedAtMs) &&
    isTime(deadlineMs) &&
    deadlineMs >= startedAtMs &&
    deadlineMs - startedAtMs <= LONGEST_MS &&
    (record.delayStartedAtMs === undefined || isTime(record.delayStartedAtMs)) &&
    (record.envoyStartedAtMs === undefined || isTime(record.envoyStartedAtMs)) &&
    isCount(record.connectionsAtStart) &&
    Number.isInteger(leader?.pid) &&
    typeof leader?.startTime === 'string' &&
    (result === undefined || isResult(result))
  );
}

function isResult(json: unknown): json is DrainResult {
  const result = (json ?? {}) as Partial<DrainResult>;
  return (
    result.outcome !== undefined &&
    OUTCOMES.includes(result.outcome) &&
    isPhase(result.phase) &&
    typeof result.startedAt === 'string' &&
    isTime(result.durationMs) &&
    result.durationMs >= 0 &&
    isCount(result.connectionsAtStart) &&
    isCount(result.connectionsLeft)
  );
}

function isPhase(value: unknown): value is DrainPhase {
  return SHUTDOWN_EVENTS.some((event) => event === value);
}

function isTime(value: unknown): value is number {
  return Number.isFinite(value);
}

/** null: could not be counted. */
function isCount(value: unknown): value is number | null {
  return value === null || (isTime(value) && value >= 0);
}
