import cluster from 'node:cluster';
import { createActions } from './actions.js';

/**
 * What pm2 and its apps say to each other over Node's IPC channel. Spoken directly, without pm2's
 * `pmx` and `tx2`: those end the process when the daemon dies (docs/facts/pm2.md, processes).
 */
export interface Pm2Channel {
  /** Whether pm2 listens; without it nothing is sent, and what follows is harmless. */
  isOpen(): boolean;
  /** `wait_ready`: pm2 may now signal the old instance. */
  sayReady(): void;
  /**
   * Makes `pm2 ls` show CPU and memory of another process for this app. pm2 then ignores
   * `max_memory_restart` (pm2's lib/Worker.js).
   */
  showMemoryOf(pid: number): void;
  /**
   * Shows values by their names in `pm2 show` and `pm2 monit`; only what has changed is sent. pm2 keeps a
   * name until this process ends: a value that does not hold any more has to be shown as another one.
   */
  showMetrics(values: Readonly<Record<string, number | string>>): void;
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
   * Resolves when what was sent and logged before has left this process. Actions that are still under way are
   * answered with an error: `pm2 trigger` would wait for an app that is gone.
   */
  flush(): Promise<void>;
}

const FLUSH_LIMIT_MS = 1_000;

/** Opens the channel of this process; every method is harmless without pm2. */
export function openPm2Channel(): Pm2Channel {
  // A message to a daemon that has just died must not end an app: Node reports it as 'error' here.
  process.on('error', () => undefined);
  // In cluster mode pm2 sends it each line of the log, and Node reports the same on the worker: without a
  // listener that is a fault, which is logged, which is sent.
  cluster.worker?.on('error', () => undefined);
  // Nor must a line of the log: a forked app's stdout is a pipe to the daemon.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);
  const startedByPm2 = process.env['pm_id'] !== undefined && process.send !== undefined;
  const send = (message: unknown): void => {
    if (process.connected) process.send?.(message);
  };
  const actions = createActions(send);
  if (startedByPm2) process.on('message', actions.hear);
  const shown = new Map<string, number | string>();
  return {
    isOpen: () => startedByPm2 && process.connected,
    sayReady: () => send('ready'),
    showMemoryOf: (pid) => send({ type: 'axm:option:configuration', data: { pid } }),
    showMetrics: (values) => {
      const changed = Object.entries(values).filter(([name, value]) => shown.get(name) !== value);
      if (changed.length === 0) return;
      for (const [name, value] of changed) shown.set(name, value);
      send({ type: 'axm:monitor', data: Object.fromEntries(changed.map(toMetric)) });
    },
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
        // In cluster mode pm2 has this process write its log to a file (its lib/ProcessContainer.js).
        const sent = (): void => void process.stdout.write('', 'utf8', () => resolve());
        process.send({ type: 'pm2-envoy:flush' }, undefined, {}, sent);
      }),
  };
}

/** As pm2's own `tx2` sends it; only numbers can be averaged. */
function toMetric([name, value]: [string, number | string]): [string, object] {
  const historic = typeof value === 'number';
  return [name, { value, type: name, historic, agg_type: historic ? 'avg' : 'none', unit: '' }];
}
