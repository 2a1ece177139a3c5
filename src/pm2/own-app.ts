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
  /** Whether pm2 means this app to run: an instance of it does, or is about to be started again. */
  isWanted(): Promise<boolean>;
  /** The instance that pm2 has put in this one's place. */
  replacement(): Promise<Pm2Process | undefined>;
  /** Ends the instance that a reload replaces by this one; false when pm2 can't be told. */
  removeReplaced(): Promise<boolean>;
}

/**
 * A restart resets created_at 4 to 49 ms before its signal (pm2-facts.md, a runner in cluster mode).
 * `pm2 reset` does so too, but no `pm2 stop` follows it as fast as this.
 */
const RESTART_WINDOW_MS = 300;
const WANTED = ['online', 'launching', 'waiting restart'];

/** Opens this process's app; without pm2 every answer is the one of doubt. */
export function openOwnApp(
  env: NodeJS.ProcessEnv = process.env,
  daemon: Pm2Daemon = openPm2Daemon(pm2Home(env)),
): OwnApp {
  const pmId = env['pm_id'];
  const find = async (): Promise<Pm2Process | undefined> => {
    if (pmId === undefined) return undefined;
    const list = await daemon.processes().catch(() => []);
    return list.find((found) => String(found.pmId) === pmId);
  };
  return {
    stopIntent: async (signalledAtMs) => {
      const own = await find();
      return own ? intentOf(own, signalledAtMs) : 'stop';
    },
    isEnding: async () => {
      const own = await find();
      return own !== undefined && (own.pid !== process.pid || own.status === 'stopping');
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

function intentOf(own: Pm2Process, signalledAtMs: number): StopIntent {
  // The instance that a reload replaces keeps its variable pm_id, but is in no list any more.
  if (own.pid !== process.pid) return 'reload';
  const wasReset = own.createdAtMs > own.startedAtMs;
  const agoMs = signalledAtMs - own.createdAtMs;
  return wasReset && agoMs <= RESTART_WINDOW_MS ? 'restart' : 'stop';
}
