import type { Logger, LoggerOptions } from 'pino';

/** What the modules need of a logger: pino's signature. */
export type Log = Pick<Logger, 'debug' | 'info' | 'warn' | 'error' | 'fatal'>;

/** Where a log is written to. */
export interface LogStream {
  readonly isTTY?: boolean;
  write(text: string): unknown;
}

/** Levels of `log-level`. */
export const LOG_LEVELS: readonly string[] = ['debug', 'info', 'warn', 'error', 'fatal', 'silent'];

/** Formats of `log-format`; `auto` is `text` on a terminal and `json` elsewhere. */
export const LOG_FORMATS: readonly string[] = ['auto', 'json', 'text'];

/**
 * Creates the logger of one process.
 *
 * It writes through the `stream` given, not to file descriptor 1: in pm2's cluster mode descriptor 1
 * is pm2's own log and only `process.stdout` reaches `pm2 logs` (docs/facts/pm2.md).
 */
export async function createLog(options: {
  name: string;
  level: string;
  format: string;
  stream: LogStream;
}): Promise<Log> {
  const { name, level, format, stream } = options;
  const text = format === 'text' || (format === 'auto' && stream.isTTY === true);
  // Not for an ecosystem file, which needs the settings alone: pm2 reads it in the process that stays.
  const { default: pino } = await import('pino');
  const settings: LoggerOptions = {
    name,
    level,
    base: { pid: process.pid },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
  };
  if (!text) return pino(settings, { write: (line) => void stream.write(line) });
  // Loaded only for people: in a container the log is JSON and this module costs memory.
  const { default: pretty } = await import('pino-pretty');
  const toText = pretty.prettyFactory({
    colorize: stream.isTTY === true && process.env['NO_COLOR'] === undefined,
    ignore: 'pid',
    translateTime: 'SYS:HH:MM:ss.l',
    singleLine: true,
  });
  return pino(settings, { write: (line) => void stream.write(toText(line)) });
}

/** A logger that says nothing; the default of modules that are handed none. */
export const silentLog: Log = {
  debug: sayNothing,
  info: sayNothing,
  warn: sayNothing,
  error: sayNothing,
  fatal: sayNothing,
};

function sayNothing(): void {}
