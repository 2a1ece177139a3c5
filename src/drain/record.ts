import { rmSync } from 'node:fs';
import { isSameStart } from '../admin/server-info.js';
import {
  conditionOf,
  ownIdentity,
  type ProcessIdentity,
  sameProcess,
} from '../envoy/process-identity.js';
import { messageOf } from '../errors.js';
import { createJson, readJson, writeJson } from '../files.js';
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

/** The place of one drain record. */
export interface DrainLedger {
  /** The record as it stands; undefined: no drain has begun. */
  read(): DrainRecord | undefined;
  /**
   * Starts a drain with `fresh`, or joins the one that is recorded. `lead` says that this process has
   * to do the work: it made the record, or the leader is gone, or overdue.
   */
  claim(fresh: DrainRecord, nowMs: number): { record: DrainRecord; lead: boolean };
  /** Writes down progress, unless another process has taken over. */
  update(record: DrainRecord): void;
}

/** How long after the deadline a leader may take to finish before a follower takes over. */
const OVERDUE_MS = 5_000;

/**
 * Opens a drain record.
 *
 * A file that can't be written costs one warning: the drain then goes on by itself, without the
 * others knowing of it. Two processes that take over in the same instant may both lead for a moment;
 * that is harmless, because every call to Envoy is idempotent.
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
  const { file, log, foreign, self = ownIdentity() } = options;
  const envoyStartedAtMs = foreign?.envoyStartedAtMs;
  let warned = false;

  let joinedAtMs: number | undefined;

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
  const read = (): DrainRecord | undefined => {
    const json = readJson(file);
    return isRecord(json) && !isStale(json) ? json : undefined;
  };
  const attempt = (write: () => void): void => {
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
      if (!read()) attempt(() => rmSync(file, { force: true }));
      attempt(() => {
        made = createJson(file, own);
      });
      const record = made ? own : read();
      if (made || !record) return { record: own, lead: true };
      joinedAtMs = record.startedAtMs;
      if (record.result || follows(record, self, nowMs)) return { record, lead: false };
      const taken = { ...record, leader: self };
      attempt(() => writeJson(file, taken));
      return { record: taken, lead: true };
    },
    update: (record) => {
      const current = read();
      if (current && (current.result || !sameProcess(current.leader, self))) return;
      attempt(() =>
        writeJson(file, envoyStartedAtMs === undefined ? record : { ...record, envoyStartedAtMs }),
      );
    },
  };
}

function follows(record: DrainRecord, self: ProcessIdentity, nowMs: number): boolean {
  const leads = !sameProcess(record.leader, self) && conditionOf(record.leader) === 'running';
  return leads && nowMs < record.deadlineMs + OVERDUE_MS;
}

function bootOf({ startTime }: ProcessIdentity): string {
  // Only Linux counts from the boot, and names it; elsewhere a start time is a date.
  return /^[0-9a-f]{8}(?=:\d+$)/.exec(startTime)?.[0] ?? '';
}

function isRecord(json: unknown): json is DrainRecord {
  const { phase, startedAt, startedAtMs, deadlineMs, leader, result } = (json ??
    {}) as Partial<DrainRecord>;
  return (
    phase !== undefined &&
    SHUTDOWN_EVENTS.includes(phase) &&
    typeof startedAt === 'string' &&
    Number.isFinite(startedAtMs) &&
    Number.isFinite(deadlineMs) &&
    typeof leader?.pid === 'number' &&
    typeof leader.startTime === 'string' &&
    (result === undefined || OUTCOMES.includes(result?.outcome))
  );
}
