import { formatDuration } from '../config/duration.js';
import type { HostDrain } from '../drain/host-drain.js';
import type { Log } from '../log.js';
import type { Pm2Channel } from '../pm2/channel.js';
import type { OwnApp } from '../pm2/own-app.js';
import type { StopReason } from '../pm2/stop-signals.js';
import type { EnvoyStatus, Status } from '../status/status.js';
import { answerResume } from './http/shutdown.js';

/** The manager's side of `pm2 trigger envoy-manager shutdown|resume|status`. */
export interface ManagerActions {
  /** Whether pm2 sent what looks like its message `shutdown` for the action of that name. */
  isTrigger(reason: StopReason): Promise<boolean>;
}

/** Offers the actions to pm2. What they do is bounded as it is over HTTP. */
export function registerActions(options: {
  channel: Pick<Pm2Channel, 'onAction'>;
  hostDrain: Pick<HostDrain, 'drain' | 'resume'>;
  readStatus(): Promise<Status>;
  log: Log;
  ownApp: Pick<OwnApp, 'isEnding'>;
}): ManagerActions {
  const { channel, hostDrain, readStatus, log, ownApp } = options;
  let resuming: Promise<unknown> | undefined;

  channel.onAction('shutdown', async () => {
    // With shutdown_with_message pm2 says the same word to stop an app.
    if (await ownApp.isEnding()) return undefined;
    log.info('pm2 trigger: shutdown');
    const result = await hostDrain.drain({ kind: 'trigger' });
    // Any answer of an app ends every `pm2 trigger` that waits for it. So both are sent together, and
    // first the one that says more.
    await resuming;
    return result;
  });
  channel.onAction('resume', () => {
    log.info('pm2 trigger: resume');
    resuming = hostDrain.resume().then((result) => answerResume(result).body);
    return resuming;
  });
  channel.onAction('status', async () => compact(await readStatus()));
  return {
    isTrigger: async (reason) => reason === 'shutdown' && !(await ownApp.isEnding()),
  };
}

/** A status in short: pm2 prints an answer as JSON, on one line. */
function compact(status: Status): object {
  const { phase, outcome, timeLeftMs, connections, activeRequests, envoy, lastError } = status;
  return {
    phase,
    ...(outcome === null ? {} : { outcome }),
    ...(timeLeftMs === null ? {} : { timeLeft: inSeconds(timeLeftMs) }),
    openConnections: connections?.open ?? 'unknown',
    activeRequests: activeRequests ?? 'unknown',
    envoy: envoy ? describeEnvoy(envoy) : 'there is none',
    ...(lastError === null ? {} : { lastError }),
  };
}

function describeEnvoy({ version, state, generation, pid, admin }: EnvoyStatus): string {
  const word = version === null ? 'does not answer' : `${version} ${state}`;
  return generation === null
    ? `${word}, ${admin}`
    : `${word}, generation ${generation}, pid ${pid}`;
}

function inSeconds(ms: number): string {
  return formatDuration(Math.round(ms / 1_000) * 1_000);
}
