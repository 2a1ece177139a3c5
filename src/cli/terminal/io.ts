import { EXIT } from '../../exit-codes.js';
import { clean, fold } from './fit.js';
import { openScreen, type Screen } from './screen.js';
import { type Terminal, terminalOf } from './terminal.js';

/** Where the command line writes to. */
export interface Io {
  /** A result, on stdout. */
  out(text: string): void;
  /** Progress and problems, on stderr. */
  note(text: string): void;
  /** The same of a sentence, which a narrow terminal would break in the middle of a word. */
  say(text: string, stream?: StreamName): void;
  /** Shows a line that the next one replaces; only on a terminal. */
  live(text: string): void;
  /** Opens what is drawn over again and again; for streams whose {@link Terminal} is `live`. */
  screen(stream: StreamName): Promise<Screen>;
  /** What a stream can show, as of now: terminals change their size. */
  terminal(stream: StreamName): Terminal;
  /** What to say when Ctrl-C ends the command, but not what it started; returns a function that unsets it. */
  onInterrupt(say: () => string, code?: number): () => void;
  /** Whether stderr is a terminal that can be drawn on. */
  readonly isTerminal: boolean;
  /** Asks a question; undefined: there is no terminal to ask on, or no answer. */
  ask(question: string): Promise<string | undefined>;
  /** Aborts once no one reads stdout any more. */
  readonly unread: AbortSignal;
}

/** Where something is shown. */
export type StreamName = 'stdout' | 'stderr';

const ERASE_LINE = '\r\u001b[K';

/** The terminal, or whatever stdout and stderr are redirected to. */
export function createIo(): Io {
  const unread = new AbortController();
  // `pm2-envoy … | head -1`: a reader that has gone must not end a drain.
  process.stderr.on('error', () => undefined);
  process.stdout.on('error', () => unread.abort());
  const terminal = (stream: StreamName): Terminal => terminalOf(process.env, process[stream]);
  let screen: Screen | undefined;
  let liveShown = false;
  const clear = (): void => {
    if (liveShown) process.stderr.write(ERASE_LINE);
    liveShown = false;
  };
  const print = (stream: StreamName, text: string): void => {
    clear();
    screen?.clear();
    process[stream].write(`${text}\n`);
    screen?.redraw();
  };
  return {
    isTerminal: terminal('stderr').live,
    unread: unread.signal,
    terminal,
    ask: async (question) => {
      if (!process.stdin.isTTY || !process.stderr.isTTY) return undefined;
      clear();
      const { createInterface } = await import('node:readline');
      const lines = createInterface({ input: process.stdin, output: process.stderr });
      return await new Promise((resolve) => {
        lines.once('close', () => resolve(undefined));
        // readline takes Ctrl-C for itself.
        lines.once('SIGINT', () => process.kill(process.pid, 'SIGINT'));
        lines.question(`${folded(question, terminal('stderr'))} `, (answer) => {
          resolve(answer.trim());
          lines.close();
        });
      });
    },
    screen: async (stream) => {
      clear();
      screen = await openScreen(process[stream], () => terminal(stream));
      return screen;
    },
    onInterrupt: (say, code = EXIT.interrupted) => {
      const interrupted = (): void => {
        clear();
        screen?.end();
        screen = undefined;
        // The terminal has shown ^C.
        if (terminal('stderr').live) process.stderr.write(ERASE_LINE);
        const text = say();
        if (text !== '') process.stderr.write(`${folded(text, terminal('stderr'))}\n`);
        process.exit(code);
      };
      process.once('SIGINT', interrupted);
      return () => process.removeListener('SIGINT', interrupted);
    },
    out: (text) => print('stdout', text),
    note: (text) => print('stderr', text),
    say: (text, stream = 'stderr') => print(stream, folded(text, terminal(stream))),
    live: (text) => {
      const { live, width } = terminal('stderr');
      if (!live) return;
      process.stderr.write(ERASE_LINE + text.slice(0, width - 1));
      liveShown = true;
    },
  };
}

function folded(text: string, { live, width, unicode }: Terminal): string {
  return live ? fold(clean(text, unicode), width) : text;
}
