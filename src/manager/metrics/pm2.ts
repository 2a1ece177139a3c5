import { type Clock, systemClock } from '../../clock.js';
import { formatDuration } from '../../config/duration.js';
import type { Counters } from '../../drain/count.js';
import type { HostDrain } from '../../drain/host-drain.js';
import type { EnvoyLocator, Located } from '../../drain/locate.js';
import type { DrainState } from '../../drain/state.js';
import type { Pm2Channel } from '../../pm2/channel.js';
import { shareInFlight } from '../../share.js';
import { isStarting } from '../../status/status.js';

/** What `pm2 show` and `pm2 monit` say of the manager. */
export interface Pm2Metrics {
  /** Shows the current state, and goes on by itself while a drain runs. Nothing without pm2. */
  look(located: Located | undefined): void;
}

/** In a drain; after a minute it is less likely that a user watches. */
const DRAIN_LOOK_MS = 1_000;
const LATE_LOOK_MS = 5_000;
const LATE_MS = 60_000;
const COUNT_LIMIT_MS = 2_000;
/** An Envoy with very many stats is asked this often all the same. */
const LONGEST_REST_MS = 15_000;
/** For what comes and goes without a trace in Envoy's open files: one connection in another's place. */
const UNSEEN_LIMIT_MS = 60_000;
const UNSEEN_IN_DRAIN_MS = 5_000;
/** Of what a drain may cost, which counts at the same time. */
const THRIFT = 2;
const NONE = '-';

/** Creates the metrics. They have a timer only in a drain; otherwise the reader calls them. */
export function createPm2Metrics(options: {
  channel: Pick<Pm2Channel, 'isOpen' | 'showMetrics'>;
  counters: Counters;
  locator: EnvoyLocator;
  hostDrain: Pick<HostDrain, 'state'>;
  clock?: Clock;
}): Pm2Metrics {
  const { channel, locator, hostDrain, clock = systemClock } = options;
  const { counters } = options;
  let latest: Located | undefined;
  let isDraining = false;
  let hasDrained = false;

  const show = async (): Promise<void> => {
    const unseenMs = isDraining ? UNSEEN_IN_DRAIN_MS : UNSEEN_LIMIT_MS;
    const open = await countAll(latest, counters, unseenMs);
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

/** What all Envoys have open; undefined: it can't be counted right now. */
async function countAll(
  located: Located | undefined,
  counters: Counters,
  unseenMs: number,
): Promise<number | undefined> {
  const targets = (located?.targets ?? []).filter((target) => !isStarting(target));
  const how = { oldestMs: LONGEST_REST_MS, unseenMs, thrift: THRIFT };
  const counts = await Promise.all(
    targets.map((target) =>
      counters
        .of(target)
        .glance(how, AbortSignal.timeout(COUNT_LIMIT_MS))
        .catch(() => undefined),
    ),
  );
  let open = 0;
  for (const counted of counts) {
    if (counted?.kind !== 'known') return undefined;
    open += counted.count.open;
  }
  return open;
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
