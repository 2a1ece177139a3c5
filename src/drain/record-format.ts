import { LONGEST_MS } from '../config/duration.js';
import { readJson } from '../host/files.js';
import type { ProcessIdentity } from '../host/process-identity.js';
import type { DrainRecord } from './record.js';
import { type DrainPhase, type DrainResult, OUTCOMES, SHUTDOWN_EVENTS } from './state.js';

/** Of the format of a drain record. What another version has written is none of ours. */
export const RECORD_VERSION = 1;

/** Whatever a damaged file holds, a part of a record is none. */
export function isRecord(json: unknown): boolean {
  const record = (json ?? {}) as Partial<DrainRecord>;
  return (
    isProgress(json) &&
    Array.isArray(record.envoys) &&
    record.envoys.every(isIdentity) &&
    Array.isArray(record.steps) &&
    record.steps.every((step) => isPhase(step?.phase) && typeof step.at === 'string') &&
    isCount(record.checkDelayMs) &&
    (record.startedBy === null || typeof record.startedBy?.kind === 'string')
  );
}

/**
 * The record that version 0.1.0 has written in the folder of a generation: `COMMAND.json`, and a later one
 * for each drain that was cancelled.
 */
export function readLegacyRecord(file: string): DrainRecord | undefined {
  const json = readJson(file);
  const result = json?.['result'];
  if (!isProgress(json) || (result !== undefined && !isResult(result))) return undefined;
  const record = json as unknown as DrainRecord;
  return {
    ...record,
    number: 0,
    term: 0,
    envoys: [],
    steps: [],
    checkDelayMs: null,
    startedBy: null,
  };
}

/** Whether it is what {@link DrainResult} promises. */
export function isResult(json: unknown): json is DrainResult {
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

function isProgress(json: unknown): boolean {
  const record = (json ?? {}) as Partial<DrainRecord>;
  const { startedAtMs, deadlineMs } = record;
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
    isIdentity(record.leader)
  );
}

function isIdentity(value: unknown): value is ProcessIdentity {
  const { pid, startTime } = (value ?? {}) as Partial<ProcessIdentity>;
  return Number.isInteger(pid) && typeof startTime === 'string';
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
