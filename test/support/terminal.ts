import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join, resolve } from 'node:path';
import type { TestPm2 } from './pm2.js';
import { createScreenReader } from './screen.js';
import { patiently } from './wait.js';

const CLI = join(resolve(import.meta.dirname, '../..'), 'bin/pm2-envoy.js');
const TTY = /^(\/dev\/\S+)\r?\n/;

/** The command line in a terminal of its own. */
export interface TestTerminal {
  /** What it shows now. */
  rows(): string[];
  /** Waits until a row matches. */
  shows(pattern: RegExp): Promise<string[]>;
  /** Everything that was written, escape sequences included. */
  written(): string;
  /** Whether a line was wider than the terminal, since it was asked last. */
  hasWrapped(): boolean;
  /** Presses Ctrl-C. */
  interrupt(): void;
  resize(size: TerminalSize): void;
  /** The exit code. */
  readonly ended: Promise<number | null>;
  close(): Promise<void>;
}

/** Columns and rows. */
export interface TerminalSize {
  width: number;
  height: number;
}

/** Runs the command line in a pseudo-terminal, which script(1) makes; `CI` is not set there unless told. */
export async function openTerminal(
  args: readonly string[],
  options: { env: NodeJS.ProcessEnv; cwd: string; size?: TerminalSize },
): Promise<TestTerminal> {
  const { env, cwd } = options;
  const size = options.size ?? { width: 80, height: 24 };
  const words = [process.execPath, CLI, ...args].map((word) => `'${word}'`).join(' ');
  const sized = `tty; stty cols ${size.width} rows ${size.height}; exec ${words}`;
  const child = spawnScript(sized, { env: { TERM: 'xterm', LANG: 'C.UTF-8', ...env }, cwd });
  let output = '';
  let tty = '';
  const screen = createScreenReader(size.width, size.height);
  child.stdout?.setEncoding('utf8');
  child.stdout?.on('data', (chunk: string) => {
    output += chunk;
    if (tty === '') {
      const [line, name = ''] = TTY.exec(output) ?? [];
      if (line === undefined) return;
      tty = name;
      output = output.slice(line.length);
      screen.write(output);
    } else {
      screen.write(chunk);
    }
  });
  await patiently('the terminal', () => tty);
  const ended = once(child, 'close').then(([code]) => (typeof code === 'number' ? code : null));
  return {
    rows: screen.rows,
    shows: (pattern) =>
      patiently(`${pattern} to be shown`, () => {
        const rows = screen.rows();
        if (rows.some((row) => pattern.test(row))) return rows;
        throw new Error(rows.join('\n'));
      }),
    written: () => output,
    hasWrapped: screen.hasWrapped,
    interrupt: () => void child.stdin?.write('\u0003'),
    resize: ({ width, height }) => {
      screen.resize(width, height);
      const flag = process.platform === 'darwin' ? '-f' : '-F';
      execFileSync('stty', [flag, tty, 'cols', `${width}`, 'rows', `${height}`]);
    },
    ended,
    close: async () => {
      child.stdin?.destroy();
      child.kill('SIGKILL');
      await ended;
    },
  };
}

/** Runs the command line of a pm2's host in a terminal, and closes that after `use`. */
export async function inTerminal(
  pm2: TestPm2,
  args: readonly string[],
  use: (terminal: TestTerminal) => Promise<void>,
  options: { size?: TerminalSize; env?: NodeJS.ProcessEnv } = {},
): Promise<void> {
  const { NO_COLOR: _, CI: __, ...env } = pm2.env;
  const terminal = await openTerminal(args, {
    cwd: pm2.folder,
    ...options,
    env: { ...env, ...options.env },
  });
  try {
    await use(terminal);
  } finally {
    await terminal.close();
  }
}

/** A program that hides the cursor shows it again. */
export function checkCursor(terminal: TestTerminal): void {
  const written = terminal.written();
  assert.ok(written.lastIndexOf('[?25h') > written.lastIndexOf('[?25l'), 'the cursor is back');
}

function spawnScript(
  command: string,
  { env, cwd }: { env: NodeJS.ProcessEnv; cwd: string },
): ChildProcess {
  const args =
    process.platform === 'darwin'
      ? ['-q', '/dev/null', 'sh', '-c', command]
      : ['-qec', command, '/dev/null'];
  return spawn('script', args, { env: { ...env, SHELL: '/bin/sh' }, cwd });
}
