import { EXIT } from '../exit-codes.js';

/** Where the command line writes to. */
export interface Io {
  /** A result, on stdout. */
  out(text: string): void;
  /** Progress and problems, on stderr. */
  note(text: string): void;
  /** Shows a line that the next one replaces; only on a terminal. */
  live(text: string): void;
  /** What to say when Ctrl-C ends the command, but not what it began; gives what takes that back. */
  onInterrupt(text: string): () => void;
  /** Whether stderr is a terminal. */
  readonly isTerminal: boolean;
}

/** `1 connection`, `2 connections`. */
export function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

/** The terminal, or whatever stdout and stderr are redirected to. */
export function createIo(): Io {
  // `pm2-envoy … | head -1`: a reader that has gone must not end a drain.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);
  const isTerminal = process.stderr.isTTY === true;
  let liveShown = false;
  const clear = (): void => {
    if (liveShown) process.stderr.write('\r\u001b[K');
    liveShown = false;
  };
  return {
    isTerminal,
    onInterrupt: (text) => {
      const interrupted = (): void => {
        clear();
        process.stderr.write(`${text}\n`);
        process.exit(EXIT.interrupted);
      };
      process.once('SIGINT', interrupted);
      return () => process.removeListener('SIGINT', interrupted);
    },
    out: (text) => {
      clear();
      process.stdout.write(`${text}\n`);
    },
    note: (text) => {
      clear();
      process.stderr.write(`${text}\n`);
    },
    live: (text) => {
      if (!isTerminal) return;
      const width = process.stderr.columns || 80;
      process.stderr.write(`\r\u001b[K${text.slice(0, width - 1)}`);
      liveShown = true;
    },
  };
}
