import { createActions } from './actions.js';

/**
 * What pm2 and its apps say to each other over Node's IPC channel. Spoken directly, without pm2's
 * `pmx` and `tx2`: those end the process when the daemon dies (pm2-facts.md, processes).
 */
export interface Pm2Channel {
  /** `wait_ready`: pm2 may now signal the old instance. */
  sayReady(): void;
  /** Makes `pm2 ls` show the memory of another process for this app. */
  showMemoryOf(pid: number): void;
  /**
   * Offers the action `name` to `pm2 trigger`, which prints what `handler` resolves to as JSON, and what it
   * throws as `{error: {code, message}}`. Triggers that come while it is under way share its answer.
   */
  onAction(name: string, handler: () => unknown): void;
  /** Resolves when no action is under way: each has been answered. As bounded as the handlers are. */
  answered(): Promise<void>;
  /** The daemon is gone. Called at most once, and never when there was no daemon. */
  onDisconnect(listener: () => void): void;
  /**
   * Resolves when what was sent before has left this process. Actions that are still under way are
   * answered with an error: `pm2 trigger` would wait for an app that is gone.
   */
  flush(): Promise<void>;
}

const FLUSH_LIMIT_MS = 500;

/** Opens the channel of this process; every method is harmless without pm2. */
export function openPm2Channel(): Pm2Channel {
  // A message to a daemon that has just died must not end an app: Node reports it as 'error' here.
  process.on('error', () => undefined);
  // Nor must a line of the log: a forked app's stdout is a pipe to the daemon.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);
  const startedByPm2 = process.env['pm_id'] !== undefined && process.send !== undefined;
  const send = (message: unknown): void => {
    if (process.connected) process.send?.(message);
  };
  const actions = createActions(send);
  if (startedByPm2) process.on('message', actions.hear);
  return {
    sayReady: () => send('ready'),
    showMemoryOf: (pid) => send({ type: 'axm:option:configuration', data: { pid } }),
    onAction: actions.offer,
    answered: actions.answered,
    onDisconnect: (listener) => {
      // It may have gone before we came to ask.
      if (startedByPm2 && !process.connected) listener();
      else process.once('disconnect', listener);
    },
    flush: () =>
      new Promise((resolve) => {
        actions.abandon();
        if (!process.connected || !process.send) return resolve();
        setTimeout(resolve, FLUSH_LIMIT_MS);
        process.send({ type: 'pm2-envoy:flush' }, undefined, {}, () => resolve());
      }),
  };
}
