import { execFileSync } from 'node:child_process';
import { closeSync, constants, openSync } from 'node:fs';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { systemClock } from '../clock.js';
import { messageOf } from '../errors.js';
import type { Log } from '../log.js';
import { createFaultFinder } from './fault.js';

/** Where one generation's output goes to. */
export interface OutputPipes {
  /** File descriptors for the child's stdout and stderr; `inherit` where there are no pipes. */
  stdio: [number | 'inherit', number | 'inherit'];
  /** To be called once the child has its own descriptors. */
  closeChildEnds(): void;
  /** Why an Envoy that has ended did so, by its own last error line; undefined: it did not say. */
  fault(): Promise<string | undefined>;
  /** What an Envoy that runs complained of last; undefined: of nothing, or it can't be read. */
  complaint(): string | undefined;
}

const NAMES = ['stdout', 'stderr'] as const;
/** A line longer than this is passed on in parts. */
const LONGEST_LINE = 64 * 1024;
/** What an Envoy that has ended wrote is in the pipe by now. */
const READ_LIMIT_MS = 1_000;

/**
 * Makes named pipes for an Envoy's stdout and stderr and forwards them, line by line, to ours.
 *
 * Named pipes, because Node's own `'pipe'` is a socket, and an Envoy that logs to /dev/stdout does not
 * start on a socket; and because the next runner can open them again when this one has died
 * (docs/facts/pm2.md, output).
 */
export function createOutputPipes(directory: string, log: Log): OutputPipes {
  try {
    const paths = NAMES.map((name) => join(directory, name));
    execFileSync('mkfifo', ['-m', '600', ...paths], { timeout: 5_000 });
    const finder = createFaultFinder();
    const isRead = forwardOutput(directory, finder.see);
    const ends = paths.map((path) => openSync(path, constants.O_WRONLY));
    return {
      stdio: [ends[0] ?? 'inherit', ends[1] ?? 'inherit'],
      closeChildEnds: () => ends.forEach(closeSync),
      fault: async () => {
        await Promise.race([isRead, systemClock.sleep(READ_LIMIT_MS)]);
        return finder.found();
      },
      complaint: finder.complaint,
    };
  } catch (error) {
    log.warn(`no pipe for Envoy's output (${messageOf(error)}): it goes to pm2's own log`);
    return {
      stdio: ['inherit', 'inherit'],
      closeChildEnds: () => undefined,
      fault: async () => undefined,
      complaint: () => undefined,
    };
  }
}

/**
 * Forwards the output of a generation, one of this runner's or one that it found.
 *
 * @param onErrors told of what it writes to stderr
 * @returns resolves once stderr has ended and all of it was read
 */
export function forwardOutput(
  directory: string,
  onErrors: (text: string) => void = () => undefined,
): Promise<void> {
  let isRead = Promise.resolve();
  for (const name of NAMES) {
    const sink = process[name];
    const fd = openSync(join(directory, name), constants.O_RDONLY | constants.O_NONBLOCK);
    const pipe = new Socket({ fd, readable: true, writable: false });
    pipe.setEncoding('utf8');
    let rest = '';
    pipe.on('data', (chunk: string) => {
      if (name === 'stderr') onErrors(chunk);
      const text = rest + chunk;
      const end = text.length > LONGEST_LINE ? text.length : text.lastIndexOf('\n') + 1;
      rest = text.slice(end);
      if (end > 0) sink.write(text.slice(0, end));
    });
    pipe.on('end', () => {
      if (rest !== '') sink.write(`${rest}\n`);
    });
    // What can't be read is lost; Envoy itself does not notice.
    pipe.on('error', () => pipe.destroy());
    if (name === 'stderr') isRead = new Promise((resolve) => pipe.once('close', () => resolve()));
    pipe.unref();
  }
  return isRead;
}
