import { readDatagrams, UDP_FILTER } from '../admin/stats.js';
import type { Clock } from '../clock.js';
import type { Log } from '../log.js';
import type { EnvoyTarget } from './envoys.js';

/** No datagram for so long, and no reply is expected any more. */
const QUIET_MS = 2_000;
/** How long sessions that are never quiet hold up the rest of a hand-over. */
const LIMIT_MS = 10_000;
const POLL_MS = 100;

/**
 * Waits until the UDP proxies of a generation that is handed over from are quiet: closing the listeners drops
 * their sessions immediately, with the replies that are under way. New datagrams go to the newer generation by
 * then. Returns immediately where there is no UDP proxy.
 */
export async function untilUdpIsQuiet(options: {
  targets: readonly EnvoyTarget[];
  isOver: () => boolean;
  timeLeftMs: () => number;
  clock: Clock;
  log: Log;
}): Promise<void> {
  const { clock } = options;
  const endMs = clock.nowMs() + Math.min(LIMIT_MS, options.timeLeftMs());
  const proxies = options.targets.filter(({ proxiesUdp }) => proxiesUdp);
  await Promise.all(proxies.map((target) => untilQuiet(target, { ...options, endMs })));
}

async function untilQuiet(
  { name, admin }: EnvoyTarget,
  { isOver, clock, log, endMs }: { isOver: () => boolean; clock: Clock; log: Log; endMs: number },
): Promise<void> {
  let known: number | undefined;
  let quietSinceMs = clock.nowMs();
  while (!isOver()) {
    const nowMs = clock.nowMs();
    const limit = AbortSignal.timeout(Math.max(1, endMs - nowMs));
    const seen = await admin
      .stats({ type: 'All', filter: UDP_FILTER }, limit)
      .then(({ stats }) => readDatagrams(stats))
      .catch(() => undefined);
    if (seen && seen.datagrams !== known) quietSinceMs = clock.nowMs();
    known = seen?.datagrams ?? known;
    if (seen?.sessions === 0) return;
    const sessions = seen ? `${seen.sessions} UDP sessions` : 'UDP sessions, if it has any';
    if (clock.nowMs() - quietSinceMs >= QUIET_MS) {
      log.info(
        `${name}: ${sessions} have been quiet for ${QUIET_MS / 1_000} s, and are closed now`,
      );
      return;
    }
    if (clock.nowMs() >= endMs) {
      log.warn(`${name}: ${sessions} still get datagrams from upstream, and are cut`);
      return;
    }
    await clock.sleep(Math.min(POLL_MS, endMs - clock.nowMs()));
  }
}
