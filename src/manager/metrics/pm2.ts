import {
  type ConnectionCount,
  DETAIL_FILTER,
  listenerMatcher,
  readConnections,
  sumConnections,
} from '../../admin/stats.js';
import { type Clock, systemClock } from '../../clock.js';
import type { Config } from '../../config/config.js';
import { formatDuration } from '../../config/duration.js';
import { createCadence } from '../../drain/cadence.js';
import type { EnvoyTarget } from '../../drain/envoys.js';
import type { HostDrain } from '../../drain/host-drain.js';
import type { EnvoyLocator, Located } from '../../drain/locate.js';
import type { DrainState } from '../../drain/state.js';
import { countDescriptors } from '../../host/descriptors.js';
import type { Pm2Channel } from '../../pm2/channel.js';
import { shareInFlight } from '../../share.js';
import { isStarting } from '../../status/status.js';

/** What `pm2 show` and `pm2 monit` say of the manager. */
export interface Pm2Metrics {
  /** Shows how things stand, and goes on by itself while a drain runs. Nothing without pm2. */
  look(located: Located | undefined): void;
}

/** In a drain; after a minute it is less likely that somebody watches. */
const DRAIN_LOOK_MS = 1_000;
const LATE_LOOK_MS = 5_000;
const LATE_MS = 60_000;
const COUNT_LIMIT_MS = 2_000;
/** An Envoy with very many stats is asked this often all the same. */
const LONGEST_REST_MS = 15_000;
/** For what comes and goes without a trace in Envoy's open files: one connection in another's place. */
const UNSEEN_LIMIT_MS = 60_000;
const UNSEEN_IN_DRAIN_MS = 5_000;
const NONE = '-';

/** Creates the metrics. They have no timer of their own but in a drain: somebody who looks calls them. */
export function createPm2Metrics(options: {
  channel: Pick<Pm2Channel, 'isOpen' | 'showMetrics'>;
  config: Pick<Config, 'ignoreListeners'>;
  locator: EnvoyLocator;
  hostDrain: Pick<HostDrain, 'state'>;
  clock?: Clock;
  openFilesOf?: (pid: number) => number | undefined;
}): Pm2Metrics {
  const { channel, config, locator, hostDrain, clock = systemClock } = options;
  const counter = createCounter({ openFilesOf: countDescriptors, ...options, config, clock });
  let latest: Located | undefined;
  let isDraining = false;
  let hasDrained = false;

  const show = async (): Promise<void> => {
    const open = await counter.count(latest, isDraining ? UNSEEN_IN_DRAIN_MS : UNSEEN_LIMIT_MS);
    const state = hostDrain.state(latest);
    isDraining = state.kind === 'draining';
    hasDrained ||= state.kind !== 'idle';
    channel.showMetrics({
      'open connections': open ?? 'unknown',
      phase: phaseOf(state),
      // pm2 can't forget a name, so neither is shown before there is something to say.
      ...(hasDrained ? { 'time left': timeLeft(state, clock), outcome: outcomeOf(state) } : {}),
    });
  };
  const follow = shareInFlight(async () => {
    const startedMs = clock.nowMs();
    await show();
    while (isDraining) {
      await clock.sleep(clock.nowMs() - startedMs < LATE_MS ? DRAIN_LOOK_MS : LATE_LOOK_MS);
      latest = await locator.locate();
      await show();
    }
  });
  return {
    look: (located) => {
      if (!channel.isOpen()) return;
      latest = located;
      void follow();
    },
  };
}

/** Counts what all Envoys have open; undefined: can't be counted right now. */
interface Counter {
  /**
   * Asks Envoy, unless it was asked so lately that it can't afford to be asked again; and for as long as
   * `unseenMs` not while it has as many files open as when it was asked.
   */
  count(located: Located | undefined, unseenMs: number): Promise<number | undefined>;
}

function createCounter(options: {
  config: Pick<Config, 'ignoreListeners'>;
  clock: Clock;
  openFilesOf: (pid: number) => number | undefined;
}): Counter {
  const { config, clock, openFilesOf } = options;
  const isIgnored = listenerMatcher(config.ignoreListeners);
  const cadence = createCadence({ checkIntervalMs: LONGEST_REST_MS / 2, checkIntervalMinMs: 0 });
  let last: { open: number | undefined; files: string | undefined; atMs: number } | undefined;

  const ask = async ({ admin }: EnvoyTarget): Promise<ConnectionCount | undefined> => {
    const query = { type: 'Gauges', filter: DETAIL_FILTER } as const;
    const { stats, tookMs } = await admin.stats(query, AbortSignal.timeout(COUNT_LIMIT_MS));
    cadence.noteCost(tookMs);
    const reading = readConnections(stats, isIgnored);
    return reading.kind === 'known' ? reading.count : undefined;
  };
  /** Undefined: the kernel does not tell. */
  const filesOf = (targets: readonly EnvoyTarget[]): string | undefined => {
    const files = targets.map(({ process: envoy }) => envoy && openFilesOf(envoy.pid));
    if (files.includes(undefined)) return undefined;
    return targets.map(({ process: envoy }, index) => `${envoy?.pid}: ${files[index]}`).join();
  };
  const count = async (located: Located | undefined, unseenMs: number) => {
    const targets = (located?.targets ?? []).filter((target) => !isStarting(target));
    const files = filesOf(targets);
    const atMs = clock.nowMs();
    const isSame = files !== undefined && files === last?.files;
    // Half of what a drain may cost, which counts for itself at the same time.
    const restMs = Math.max(2 * cadence.nextDelayMs(0), isSame ? unseenMs : 0);
    if (last && atMs < last.atMs + restMs) return last.open;
    const counts = await Promise.all(targets.map((target) => ask(target).catch(() => undefined)));
    const known = counts.filter((found) => found !== undefined);
    const found = known.length === counts.length ? sumConnections(known) : undefined;
    // Connections over QUIC share one file. What could not be counted is asked for at the next look.
    const isSeen = found?.byKind.http3 === 0;
    last = { open: found?.open, files: isSeen ? files : undefined, atMs };
    return found?.open;
  };
  return { count };
}

function phaseOf(state: DrainState): string {
  if (state.kind === 'draining') return state.phase;
  return state.kind === 'ended' ? state.result.phase : 'idle';
}

function timeLeft(state: DrainState, clock: Clock): string {
  if (state.kind !== 'draining') return NONE;
  const seconds = Math.round((state.deadlineMs - clock.nowMs()) / 1_000);
  return formatDuration(Math.max(0, seconds) * 1_000);
}

function outcomeOf(state: DrainState): string {
  return state.kind === 'ended' ? state.result.outcome : NONE;
}
