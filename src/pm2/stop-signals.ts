import './log-signals.js';

/** What told an app to stop. */
export type StopReason = 'SIGTERM' | 'SIGINT' | 'shutdown';

/**
 * Catches the signals that end an app, and pm2's message `shutdown`, from the moment that this module
 * is loaded. The apps import it before anything else: a signal that comes while the rest is still
 * loading would otherwise end the process by itself, and pm2 would start it again.
 */
const told: Told[] = [];
let listener: ((reason: StopReason, atMs: number) => void) | undefined;

interface Told {
  reason: StopReason;
  atMs: number;
}

const tell = (reason: StopReason): void => {
  const atMs = Date.now();
  if (listener) listener(reason, atMs);
  else told.push({ reason, atMs });
};
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => tell(signal));
// A terminal that is closed tells all that run in it; pm2's daemon and pm2-runtime decide what follows.
process.on('SIGHUP', () => undefined);
process.on('message', (message: unknown) => {
  if (message === 'shutdown') tell('shutdown');
});

/**
 * Calls `stop` each time that this app is told to stop, and immediately if it has been already; `atMs` is when,
 * in epoch milliseconds.
 */
export function onStop(stop: (reason: StopReason, atMs: number) => void): void {
  listener = stop;
  for (const { reason, atMs } of told.splice(0)) stop(reason, atMs);
}
