import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { systemClock } from '../../clock.js';
import type { Config } from '../../config/config.js';
import { silentLog } from '../../log.js';
import { createPluginHost } from '../../plugins/host.js';
import { isDraining } from '../../status/situation.js';
import { createStatusSource } from '../commands/status-source.js';
import type { Io } from '../terminal/io.js';
import { createDrainLines, drainLine, type PlainLine } from '../view/plain-view.js';

/** pm2-runtime in the foreground, and what it is shown as. */
export interface Runtime {
  /** Resolves to the exit code once it has ended. */
  readonly ended: Promise<number>;
  hasEnded(): boolean;
  /** Has it stop its apps, which drains; shows how that goes on. */
  stop(): void;
}

const LOOK_MS = 500;
/** pm2 waits, and looks now and then whether an app has ended: that is no failure, and comes 20 times a second. */
const PM2_WAITS = /failed to kill - retrying in \d+ms/;

/** Starts pm2-runtime with the ecosystem file of `cwd`, in a process group of its own: Ctrl-C reaches it once. */
export function createRuntime(options: {
  io: Io;
  config: Config;
  /** Of pm2-runtime. */
  script: string;
  env: NodeJS.ProcessEnv;
  cwd: string;
}): Runtime {
  const { io, config, script, env, cwd } = options;
  const child = spawn(process.execPath, [script, 'start', 'ecosystem.config.js'], {
    cwd,
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  let isStopping = false;
  const forward = (stream: Readable, print: (line: string) => void): Promise<void> =>
    new Promise((resolve) => {
      createInterface({ input: stream })
        .on('line', (line) => {
          if (!(isStopping && PM2_WAITS.test(line))) print(line);
        })
        .once('close', () => resolve());
    });
  const read = Promise.all([forward(child.stdout, io.out), forward(child.stderr, io.note)]);
  const over = new AbortController();
  const ended = new Promise<number>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', async (code, signal) => {
      over.abort();
      await Promise.race([read, systemClock.sleep(LOOK_MS)]);
      // Stopped so early that pm2-runtime had no handler yet: nothing was running.
      resolve(code ?? (signal && !isStopping ? 1 : 0));
    });
  });
  return {
    ended,
    hasEnded: () => child.exitCode !== null || child.signalCode !== null,
    stop: () => {
      isStopping = true;
      child.kill('SIGTERM');
      void showDrain(io, config, over.signal);
    },
  };
}

/**
 * What the drain waits for, in one line that changes; in lines of their own where there is no terminal. Without
 * a manager Envoy itself is asked: pm2 brings none back that ends now.
 */
async function showDrain(io: Io, config: Config, signal: AbortSignal): Promise<void> {
  const host = createPluginHost({ config, log: silentLog, plugins: [] });
  const source = createStatusSource(config, host);
  const lines = createDrainLines();
  while (!signal.aborted) {
    const found = await source.read(signal).catch(() => undefined);
    if (signal.aborted) return;
    if (found && isDraining(found.status)) {
      const { status } = found;
      if (io.isTerminal) io.live(textOf(drainLine(status)));
      else for (const line of lines.next(status, systemClock.nowMs())) io.note(textOf(line));
    }
    await systemClock.sleep(LOOK_MS, signal);
  }
}

function textOf({ text, more }: PlainLine): string {
  return more === '' ? text : `${text}; ${more}`;
}
