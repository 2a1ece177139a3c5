import { type Clock, systemClock } from '../clock.js';
import type { Config } from '../config/config.js';
import { formatDuration } from '../config/duration.js';
import type { HostDrain } from '../drain/host-drain.js';
import { type EnvoyLocator, type Located, lookAtHost } from '../drain/locate.js';
import { describeEnded } from '../drain/state.js';
import type { Witness } from '../drain/witness.js';
import { isPm2EnvoyError, messageOf } from '../errors.js';
import { describeFailedStart, type FailedStart } from '../host/failed-start.js';
import type { Log } from '../log.js';
import { shareInFlight } from '../share.js';
import { isStarting } from '../status/status.js';
import type { HttpError } from './http/answers.js';
import type { Health } from './http/health.js';

const LONGEST_WATCH_MS = 5_000;
/** Looks between two questions to an idle Envoy: a call costs an idle manager ten times what a look does. */
const LOOKS_PER_QUESTION = 3;
const ORPHANED =
  'Envoy is DRAINING, but pm2-envoy runs no drain: another program failed its health check; `pm2-envoy resume` reverts that, `pm2-envoy shutdown` drains it';

/**
 * Creates the health answers, and the watch that notices between two probes that Envoy is lost, or
 * that a drain has lost its leader.
 */
export function watchHealth(options: {
  config: Pick<Config, 'envoyLostAfterMs' | 'orphanedDrain'>;
  locator: EnvoyLocator;
  hostDrain: HostDrain;
  /** Shared with everything else that looks in this process. */
  witness: Witness;
  log: Log;
  readFailedStart?: () => FailedStart | undefined;
  /** Called at each look, for who wants to look at the same moments. */
  onLook?: (located: Located | undefined) => void;
  clock?: Clock;
}): Health {
  const { config, locator, hostDrain, onLook } = options;
  const { clock = systemClock } = options;
  const { envoyLostAfterMs } = config;
  let lostSinceMs: number | undefined;
  const orphanedDrain = watchOrphanedDrain(options);

  const look = async (): Promise<void> => {
    const located = await locator.locate();
    onLook?.(located);
    const drain = hostDrain.state(located).kind;
    const isWell = drain !== 'idle' || (await exists(located));
    lostSinceMs = isWell ? undefined : (lostSinceMs ?? clock.nowMs());
    if (drain === 'draining') await hostDrain.resumeAbandoned();
    if (drain === 'ended') hostDrain.recordLate(located);
    if (drain === 'idle' && located) await orphanedDrain.look(located);
    else orphanedDrain.forget();
  };
  const everyMs = envoyLostAfterMs > 0 ? Math.max(100, envoyLostAfterMs / 4) : LONGEST_WATCH_MS;
  void look();
  setInterval(look, Math.min(LONGEST_WATCH_MS, everyMs)).unref();

  return {
    unhealthy: () => {
      const lostForMs = lostSinceMs === undefined ? 0 : clock.nowMs() - lostSinceMs;
      if (lostForMs <= envoyLostAfterMs || envoyLostAfterMs === 0) return undefined;
      return `Envoy has been gone for ${formatDuration(Math.round(lostForMs / 1_000) * 1_000)}: neither its process nor its admin interface is there`;
    },
    unready: shareInFlight(() =>
      lookAtHost(
        locator,
        (located) => unreadyOf(located, options),
        (problem) => problem !== undefined,
      ),
    ),
  };
}

/** Why a host is not ready that has these Envoys. */
async function unreadyOf(
  located: Located | undefined,
  {
    hostDrain,
    witness,
    readFailedStart,
  }: {
    hostDrain: HostDrain;
    witness: Witness;
    readFailedStart?: () => FailedStart | undefined;
  },
): Promise<HttpError | undefined> {
  const drain = hostDrain.state(located);
  if (drain.kind === 'draining') {
    return { code: 'draining', message: `a drain is under way (${drain.phase})` };
  }
  if (drain.kind === 'ended') {
    return { code: 'drained', message: describeEnded(drain.result, drain.startedBy) };
  }
  const failed = !located || isStarting(located) ? readFailedStart?.() : undefined;
  if (failed) {
    const message = `there is no Envoy: ${describeFailedStart(failed)}`;
    return { code: 'envoy-start-failed', message };
  }
  if (!located) return { code: 'envoy-gone', message: 'there is no Envoy' };
  try {
    const state = await located.newest.admin.state();
    const hasListened = state === 'LIVE' || state === 'DRAINING';
    if (hasListened && (await witness.isClosed(located.newest))) return CLOSED;
    if (state === 'LIVE') {
      // One that may not be asked is taken to have some.
      const listeners = await located.newest.admin.listeners().catch(() => undefined);
      return listeners?.length === 0 ? NO_LISTENERS : undefined;
    }
    return state === 'DRAINING'
      ? { code: 'orphaned-drain', message: ORPHANED }
      : { code: 'not-live', message: `Envoy is ${state}` };
  } catch (error) {
    const code = isPm2EnvoyError(error) ? error.code : 'admin-failed';
    return { code, message: messageOf(error) };
  }
}

const CLOSED: HttpError = {
  code: 'listeners-closed',
  message:
    'Envoy’s listeners are closed, although pm2-envoy runs no drain, which can’t be undone: `pm2-envoy redeploy` brings up a new one',
};
const NO_LISTENERS: HttpError = {
  code: 'no-listeners',
  message:
    'Envoy is LIVE, but has no listener: its listeners (LDS) did not arrive; `pm2-envoy doctor` says more',
};

/** Does what `orphaned-drain` says once another program has failed Envoy's health check. */
function watchOrphanedDrain(options: {
  config: Pick<Config, 'orphanedDrain'>;
  hostDrain: HostDrain;
  log: Log;
}): { look(located: Located): Promise<void>; forget(): void } {
  const { config, hostDrain, log } = options;
  let seen = 0;
  let looks = 0;
  return {
    // Seen twice, so that a drain which has just begun, without a record, is not taken for one.
    look: async (located) => {
      looks += 1;
      if (seen !== 1 && looks % LOOKS_PER_QUESTION !== 0) return;
      const state = isStarting(located)
        ? undefined
        : await located.newest.admin.state().catch(() => undefined);
      seen = state === 'DRAINING' ? seen + 1 : 0;
      if (seen !== 2) return;
      log.warn(`${ORPHANED}; orphaned-drain is ${config.orphanedDrain}`);
      if (config.orphanedDrain === 'resume') {
        const result = await hostDrain.resume();
        if (result.kind === 'resumed') log.info('Envoy passes its health check again');
        else log.error(`Envoy can't be resumed: ${JSON.stringify(result)}`);
      }
      if (config.orphanedDrain === 'shutdown') void hostDrain.drain({ kind: 'orphaned-drain' });
    },
    forget: () => {
      seen = 0;
    },
  };
}

/** Lost is: no process and no answer. A process that does not answer is not lost. */
async function exists(located: Located | undefined): Promise<boolean> {
  if (!located) return false;
  if (located.generation) return true;
  return located.newest.admin.state().then(
    () => true,
    (error: unknown) => !isPm2EnvoyError(error, 'admin-gone'),
  );
}
