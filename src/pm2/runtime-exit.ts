import { basename } from 'node:path';

const RUNTIMES: readonly string[] = ['pm2-runtime', 'pm2-docker'];
/** What pm2-runtime ends with when it finds no app online any more. */
const NOTHING_ONLINE = 2;

let isSet = false;

/**
 * Has pm2-runtime, in whose process an ecosystem file is read, end with 0 after a stop that it was told to do. It
 * counts apps that are stopping as gone: 8.8 s after the signal it stops them a second time, and ends with 2 or 0,
 * whichever of the two comes first (pm2's lib/binaries/Runtime4Docker.js). Without that signal 2 stays 2: nothing
 * is left to run.
 *
 * SIGHUP, which a terminal sends that is closed, stops it as SIGTERM does: by itself pm2-runtime would end at once,
 * and Envoy serve on without a runner. Anywhere else this does nothing.
 */
export function keepRuntimeExitCode(argv: readonly string[] = process.argv): void {
  if (isSet || !RUNTIMES.includes(basename(argv[1] ?? ''))) return;
  isSet = true;
  let isStopping = false;
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      isStopping = true;
    });
  }
  process.on('SIGHUP', () => process.kill(process.pid, 'SIGTERM'));
  // The terminal is gone, and what pm2-runtime still says would end it.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);
  process.on('exit', (code) => {
    if (isStopping && code === NOTHING_ONLINE) process.exitCode = 0;
  });
}
