import { isIP } from 'node:net';
import convict from 'convict';
import { LOG_FORMATS, LOG_LEVELS } from '../log.js';
import { parseDuration } from './duration.js';
import { tokenFault } from './token.js';

/** One kind of value: how it is checked, and how the text of a flag or variable becomes one. */
interface Format {
  /** What is allowed, for messages and docs/configuration.md. */
  allowed: string;
  /** Throws an Error that says what is wrong. */
  validate(value: unknown): void;
  /** Reads the value from the environment or a flag; the text itself if left out. */
  fromText?(text: string): unknown;
}

/** Names of the formats that the schema uses. */
export type FormatName =
  | 'duration'
  | 'positive duration'
  | 'grace period'
  | 'count'
  | 'port'
  | 'host'
  | 'admin address'
  | 'drain rule'
  | 'listener rule'
  | 'orphaned drain rule'
  | 'token'
  | 'path'
  | 'list'
  | 'arguments'
  | 'plugins'
  | 'log level'
  | 'log format';

/** Every format by its name; also known to convict after this module is loaded. */
export const FORMATS: Readonly<Record<FormatName, Format>> = {
  duration: {
    allowed: 'a duration, such as 0s, 5s, 1m30s or 500ms',
    validate: (value) => void parseDuration(value),
  },
  'positive duration': {
    allowed: 'a duration above 0s, such as 5s, 1m30s or 500ms',
    validate: (value) => {
      if (parseDuration(value) < 1) throw new Error('must be at least 1ms');
    },
  },
  'grace period': {
    allowed: 'a duration of 1s or more, such as 10s or 2m',
    validate: (value) => {
      if (value !== null && parseDuration(value) < 1_000) throw new Error('must be at least 1s');
    },
  },
  count: {
    allowed: 'a whole number, 0 or more',
    validate: (value) => must(isWhole(value) && value >= 0, 'must be a whole number, 0 or more'),
    fromText: numberFromText,
  },
  port: {
    allowed: 'a port, 0 to 65535',
    validate: (value) =>
      must(isWhole(value) && value >= 0 && value <= 65_535, 'must be a port, 0 to 65535'),
    fromText: numberFromText,
  },
  host: {
    allowed: 'an IP address of this host (127.0.0.1, 0.0.0.0, ::1, …)',
    validate: (value) =>
      must(
        typeof value === 'string' && isIP(value) !== 0,
        'must be an IP address, such as 127.0.0.1',
      ),
  },
  'admin address': {
    allowed: '`http://HOST:PORT` or `unix:/PATH`',
    validate: (value) =>
      must(
        value === null || (typeof value === 'string' && isAdminAddress(value)),
        'must be http://HOST:PORT or unix:/PATH',
      ),
  },
  'drain rule': oneOf(['connections', 'requests']),
  'listener rule': oneOf(['all', 'inbound']),
  'orphaned drain rule': oneOf(['report', 'resume', 'shutdown']),
  token: {
    allowed: 'a line of printable ASCII, at most 4096 characters',
    fromText: (text) => text.trim(),
    validate: (value) => {
      if (value === null) return;
      if (typeof value !== 'string' || value === '') throw new Error('must be text, not empty');
      const fault = tokenFault(value);
      if (fault) throw new Error(fault);
    },
  },
  path: {
    allowed: 'a path',
    validate: (value) =>
      must(value === null || (typeof value === 'string' && value !== ''), 'must be a path'),
  },
  list: {
    allowed: 'a list of strings; in a flag or variable separated by commas',
    validate: (value) => must(isTextList(value), 'must be a list of strings'),
    fromText: listFromText,
  },
  arguments: {
    allowed:
      'a list of strings; in a flag or variable separated by spaces, or by commas if there are no spaces',
    validate: (value) =>
      must(isTextList(value), 'must be a list of strings, such as ["--concurrency", "2"]'),
    fromText: argumentsFromText,
  },
  plugins: {
    allowed:
      'a list of module paths or `[path, options]`; in a flag or variable JSON, or paths separated by commas',
    validate: (value) =>
      must(
        Array.isArray(value) && value.every(isPluginEntry),
        'must be a list of module paths or [path, options]',
      ),
    fromText: listFromText,
  },
  'log level': oneOf(LOG_LEVELS),
  'log format': oneOf(LOG_FORMATS),
};

for (const [name, format] of Object.entries(FORMATS)) {
  convict.addFormat({ name, validate: format.validate, coerce: (value: unknown) => value });
}

function oneOf(values: readonly string[]): Format {
  const allowed = `${values.slice(0, -1).join(', ')} or ${values.at(-1)}`;
  return {
    allowed,
    validate: (value) =>
      must(typeof value === 'string' && values.includes(value), `must be ${allowed}`),
  };
}

function must(condition: boolean, message: string): void {
  if (!condition) throw new Error(message);
}

function isWhole(value: unknown): value is number {
  return Number.isSafeInteger(value);
}

function isTextList(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((entry) => typeof entry === 'string' && entry !== '');
}

function isPluginEntry(entry: unknown): boolean {
  if (typeof entry === 'string') return entry !== '';
  if (!Array.isArray(entry) || entry.length !== 2) return false;
  const [path, options] = entry;
  return typeof path === 'string' && path !== '' && typeof options === 'object' && options !== null;
}

function isAdminAddress(value: string): boolean {
  if (/^unix:\/./.test(value)) return true;
  const url = URL.canParse(value) ? new URL(value) : undefined;
  return url?.protocol === 'http:' && url.pathname === '/' && url.search === '' && url.hash === '';
}

/** Leaves a text that is no number as it is: the format then refuses it with its own message. */
function numberFromText(text: string): unknown {
  return /^[+-]?\d+(\.\d+)?$/.test(text.trim()) ? Number(text) : text;
}

function listFromText(text: string): unknown {
  try {
    if (text.trim().startsWith('[')) return JSON.parse(text);
  } catch {
    // Broken JSON is refused as it stands; `[__1]_10000` is the name of an IPv6 listener.
    if (/^\s*\[\s*["[]/.test(text)) return text;
  }
  return text
    .split(',')
    .map((entry) => entry.trim())
    .filter((entry) => entry !== '');
}

/** As in a shell, but without quotes; `--concurrency,2` is what fits into one word of a shell. */
function argumentsFromText(text: string): unknown {
  const isPlain = !text.trim().startsWith('[') && /\S\s+\S/.test(text);
  return isPlain ? text.trim().split(/\s*,\s+|\s+/) : listFromText(text);
}
