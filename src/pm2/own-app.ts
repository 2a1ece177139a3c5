import { type Clock, systemClock } from '../clock.js';
import { messageOf } from '../errors.js';
import { openPm2Daemon, type Pm2Daemon, type Pm2Process } from './daemon.js';
import { pm2Home } from './supervisor.js';

/** What pm2 wants when it signals an app: the signal itself is the same. */
export type StopIntent = 'stop' | 'restart' | 'reload';

/** This app, as pm2's daemon has it. No method rejects: pm2 may just have gone. */
export interface OwnApp {
  /**
   * Why pm2 signals this process; any doubt is `stop`.
   *
   * @param signalledAtMs when the signal came, in epoch milliseconds
   */
  stopIntent(signalledAtMs: number): Promise<StopIntent>;
  /** Whether pm2 is ending this process, as far as it tells; doubt is no. */
  isEnding(): Promise<boolean>;
  /** Whether pm2 is stopping that process, of this app or another one; doubt is no. */
  isStopping(pid: number): Promise<boolean>;
  /** Whether pm2 means this app to run: an instance of it does, or is about to be started again. */
  isWanted(): Promise<boolean>;
  /** The instance that pm2 has put in this one's place. */
  replacement(): Promise<Pm2Process | undefined>;
  /** Ends the instance that a reload replaces by this one; false when pm2 can't be told. */
  removeReplaced(): Promise<boolean>;
}

/** What {@link openOwnApp} takes instead of this process's own. */
export interface OwnAppOptions {
  env?: NodeJS.ProcessEnv;
  daemon?: Pm2Daemon;
  /** Whether pm2 is there, although it may not answer: by this process's channel. */
  isPm2There?: () => boolean;
  /** Told when pm2 is there and can't be asked all the same. */
  warn?: (message: string) => void;
  clock?: Clock;
}

/**
 * A restart resets created_at 4 to 49 ms before its signal (docs/facts/pm2.md, a runner in cluster mode).
 * `pm2 reset` does so too, and sets the count of restarts to 0; no `pm2 stop` follows it as fast as this. But it sets
 * no back-off, unlike the first restart, of which a runner that is late hears later.
 */
const RESTART_WINDOW_MS = 300;
const WANTED = ['online', 'launching', 'waiting restart'];

/** How often, and how long, a pm2 that is there but does not answer is asked again. */
const ASK_AGAIN_MS = 200;
const ASK_LIMIT_MS = 8_000;

/** Opens this process's app; without pm2 every answer is the one of doubt. */
export function openOwnApp(options: OwnAppOptions = {}): OwnApp {
  const { env = process.env, clock = systemClock, warn = () => undefined } = options;
  const { daemon = openPm2Daemon(pm2Home(env)), isPm2There = () => process.connected === true } =
    options;
  const pmId = env['pm_id'];
  /** A pm2 that is busy, or starved, is not the same as none: it is asked again. */
  const ask = async (): Promise<Pm2Process[]> => {
    const endMs = clock.nowMs() + ASK_LIMIT_MS;
    for (;;) {
      try {
        return await daemon.processes();
      } catch (error) {
        if (!isPm2There()) return [];
        if (clock.nowMs() < endMs) await clock.sleep(ASK_AGAIN_MS);
        else {
          warn(`what pm2 is doing is unknown: ${messageOf(error)}`);
          return [];
        }
      }
    }
  };
  const find = async (): Promise<Pm2Process | undefined> => {
    if (pmId === undefined) return undefined;
    return (await ask()).find((found) => String(found.pmId) === pmId);
  };
  return {
    stopIntent: async (signalledAtMs) => {
      const own = await find();
      const hadBackOff = env['prev_restart_delay'] !== undefined;
      return own ? intentOf(own, { signalledAtMs, hadBackOff }) : 'stop';
    },
    isEnding: async () => {
      const own = await find();
      return own !== undefined && (own.pid !== process.pid || own.status === 'stopping');
    },
    isStopping: async (pid) => {
      const found = (await ask()).find((one) => one.pid === pid);
      // A reload ends the instance that it replaces, and the app goes on.
      return found?.status === 'stopping' && typeof found.pmId === 'number';
    },
    isWanted: async () => {
      const own = await find();
      return own !== undefined && WANTED.includes(own.status);
    },
    replacement: async () => {
      const own = await find();
      return own?.pid === process.pid ? undefined : own;
    },
    removeReplaced: async () => {
      if (pmId === undefined) return false;
      return daemon.remove(`_old_${pmId}`).then(
        () => true,
        () => false,
      );
    },
  };
}

function intentOf(
  own: Pm2Process,
  { signalledAtMs, hadBackOff }: { signalledAtMs: number; hadBackOff: boolean },
): StopIntent {
  // The instance that a reload replaces keeps its variable pm_id, but is in no list any more.
  if (own.pid !== process.pid) return 'reload';
  const wasReset = own.createdAtMs > own.startedAtMs;
  const agoMs = signalledAtMs - own.createdAtMs;
  const isFirst = !hadBackOff && own.backOffMs === 0;
  const isRestart = own.restarts > 0 || isFirst || agoMs <= RESTART_WINDOW_MS;
  return wasReset && isRestart ? 'restart' : 'stop';
}
