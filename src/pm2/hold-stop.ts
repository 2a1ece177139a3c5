import { type Clock, systemClock } from '../clock.js';
import { type Generation, openGenerations } from '../host/generations.js';
import { openPm2Daemon, type Pm2Daemon } from './daemon.js';
import { pm2Home } from './supervisor.js';

/** pm2's own default of `kill_timeout`, which also stands for 0. */
export const PM2_KILL_TIMEOUT_MS = 1_600;

/** Hands a {@link Hold} to an app, as JSON. */
export const HOLD_VARIABLE = 'BEHIND_ENVOY';

/** Which Envoy an app is behind. */
export interface Hold {
  /** `run-dir`; undefined: one of the default places. */
  runDir?: string | undefined;
  /** The longest time that a stop is held. */
  limitMs: number;
}

/** How long an app that is told to stop looks whether Envoy is as well. */
const APPEARS_MS = 1_000;
/** The same, where pm2 is there and does not answer. */
const LATE_MS = 8_000;
const POLL_MS = 50;

/**
 * Holds what tells this process to stop until `until` resolves, and then passes it on: to the listeners of the
 * app, or to the system's default where it has none. What comes again meanwhile is the same stop.
 */
export function holdStops(until: () => Promise<void>, own: NodeJS.Process = process): void {
  const emit = own.emit as (...event: unknown[]) => boolean;
  let isHeld = false;
  let isOver = false;
  const nothing = (): void => undefined;
  const release = (event: readonly unknown[]): void => {
    isOver = true;
    const [name] = event;
    if (name === 'message') {
      emit.apply(own, [...event]);
      return;
    }
    const signal = name as NodeJS.Signals;
    own.removeListener(signal, nothing);
    if (own.listenerCount(signal) > 0) emit.apply(own, [...event]);
    else own.kill(own.pid, signal);
  };
  own.emit = ((...event: unknown[]): boolean => {
    if (isOver || !isStop(event)) return emit.apply(own, event);
    if (!isHeld) void until().then(() => release(event));
    isHeld = true;
    return true;
  }) as typeof own.emit;
  // Without a listener the system ends the process.
  for (const signal of SIGNALS) own.on(signal, nothing);
}

/**
 * Resolves once Envoy has ended, where pm2 stops Envoy's runner too; immediately where it does not, or can't be asked.
 *
 * @param limitMs never later than that
 */
export async function untilEnvoyHasEnded(options: {
  runDir: string;
  limitMs: number;
  daemon?: Pick<Pm2Daemon, 'processes'>;
  isPm2There?: () => boolean;
  clock?: Clock;
}): Promise<void> {
  const { runDir, limitMs, daemon = openPm2Daemon(pm2Home()), clock = systemClock } = options;
  const { isPm2There = () => process.connected === true } = options;
  const generations = openGenerations(runDir);
  const startMs = clock.nowMs();
  const isStopping = async ({ runner }: Generation): Promise<boolean | undefined> => {
    const all = await daemon.processes().catch(() => undefined);
    return all?.some(({ pid, status }) => pid === runner.pid && status === 'stopping');
  };
  for (;;) {
    const newest = generations.newest();
    if (!newest) return;
    const isStopped = await isStopping(newest);
    if (isStopped) break;
    const isLate = isStopped === undefined && isPm2There();
    if (clock.nowMs() - startMs > (isLate ? LATE_MS : APPEARS_MS)) return;
    await clock.sleep(POLL_MS);
  }
  while (generations.live().length > 0 && clock.nowMs() - startMs < limitMs) {
    await clock.sleep(POLL_MS);
  }
}

const SIGNALS = ['SIGINT', 'SIGTERM'] as const;

function isStop([name, message]: readonly unknown[]): boolean {
  return (
    SIGNALS.some((signal) => signal === name) || (name === 'message' && message === 'shutdown')
  );
}
