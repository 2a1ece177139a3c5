import { parseDuration } from '../../config/duration.js';
import { messageOf } from '../../errors.js';
import { objectOf } from '../../json.js';
import type { Variables } from './container.js';
import { type Finding, problem } from './finding.js';

export { objectOf };

/** The fields of an object of a manifest; empty for anything else. */
export type Fields = Readonly<Record<string, unknown>>;

/** A value as a list; empty when it is none. */
export function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

/** A value as texts: a list, or one text that a shell would split. */
export function textsOf(value: unknown): string[] {
  if (typeof value === 'string') return value.split(/\s+/).filter((word) => word !== '');
  return listOf(value).map(String);
}

/** A value that is a text. */
export function textOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}

/** Reads values, and remembers what it could not read: a value that is not understood is never a default. */
export interface FieldReader {
  readonly findings: Finding[];
  /** A whole number of seconds; `fallback` only where nothing is there. */
  seconds(fields: Fields, name: string, fallback: number): number | undefined;
  /** A duration as Go writes it, in milliseconds; `fallback` only where nothing is there. */
  durationMs(fields: Fields, name: string, fallback: number): number | undefined;
  /** The same, where a bare number is seconds, as in systemd and fly.toml. */
  durationOrSecondsMs(fields: Fields, name: string, fallback: number): number | undefined;
}

/** Creates the reader of one container. */
export function createFieldReader(): FieldReader {
  const findings: Finding[] = [];
  const refuse = (name: string, value: unknown, needs: string): undefined => {
    findings.push(
      problem(
        'manifest',
        `${name} is ${JSON.stringify(value)}, which is ${needs}`,
        remedyFor(value),
      ),
    );
    return undefined;
  };
  const number = (value: unknown): number | undefined => {
    // Kubernetes refuses a number in quotes by itself, and means that number.
    if (typeof value === 'string' && /^\d+$/.test(value)) return Number(value);
    return typeof value === 'number' && Number.isInteger(value) && value >= 0 ? value : undefined;
  };
  const duration = (name: string, value: unknown): number | undefined => {
    try {
      return parseDuration(value);
    } catch (error) {
      return refuse(name, value, `not a duration: it ${messageOf(error)}`);
    }
  };
  return {
    findings,
    seconds: (fields, name, fallback) => {
      const value = fields[name];
      if (value === undefined || value === null) return fallback;
      return number(value) ?? refuse(name, value, 'not a whole number of seconds');
    },
    durationMs: (fields, name, fallback) => {
      const value = fields[name];
      return value === undefined || value === null ? fallback : duration(name, value);
    },
    durationOrSecondsMs: (fields, name, fallback) => {
      const value = fields[name];
      if (value === undefined || value === null) return fallback;
      const seconds = number(value);
      return seconds === undefined ? duration(name, value) : seconds * 1_000;
    },
  };
}

function remedyFor(value: unknown): string {
  return isUnseen(value)
    ? 'pass what is applied, with everything filled in'
    : 'write it as the platform expects it: it refuses this, or uses its default';
}

/** Whether a value is filled in somewhere else: `$(NAME)`, `${NAME}`, `{{ .Values.name }}`. */
export function isUnseen(value: unknown): boolean {
  if (isTemplate(value)) return true;
  return typeof value === 'string' && /\$\([^)]+\)|\$\{[^}]+\}/.test(value);
}

/** Whether `{{ }}` is in it, which YAML reads as a map in a map where it is not in quotes. */
export function isTemplate(value: unknown): boolean {
  return /\{"?\{/.test(JSON.stringify(value) ?? '');
}

/** The variables that matter, of all that a container has. */
export function variablesOf(all: Iterable<readonly [string, unknown]>): Variables {
  const ours = [...all].filter(([name]) => /^(PM2_ENVOY_|PM2_HOME$)/.test(name));
  return new Map(
    ours.map(([name, value]) => {
      const isThere = value !== undefined && !isUnseen(value);
      return [name, isThere ? String(value ?? '') : undefined];
    }),
  );
}
