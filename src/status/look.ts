import type { AdminClient } from '../admin/client.js';
import type { ServerInfo } from '../admin/server-info.js';
import type { ConnectionCount } from '../admin/stats.js';
import type { Clock } from '../clock.js';
import { createCadence } from '../drain/cadence.js';
import type { Counted, EnvoyCounter } from '../drain/count.js';
import type { EnvoyTarget } from '../drain/envoys.js';
import type { Witness } from '../drain/witness.js';
import { messageOf } from '../errors.js';
import { listConnections } from '../host/sockets.js';
import { shareInFlight } from '../share.js';
import { createPeerBook, type Peer } from './peers.js';

/** What one Envoy says of itself, and the kernel of its connections. */
export interface Look {
  /** LIVE, DRAINING, …; undefined: it does not answer. */
  state?: string;
  /** Slow to ask for, so up to ten seconds old; `uptimeSeconds` is as of now. */
  info?: ServerInfo;
  /** How many listeners are in effect; undefined: it does not say. */
  listeners?: number;
  /** They are closed, no matter by which process. */
  isClosed?: boolean;
  /** Undefined: its connections can't be counted. */
  count?: ConnectionCount;
  /** New connections in a second, between the last two looks; undefined: this is the first one. */
  acceptedPerSecond?: number;
  poll?: { at: string; tookMs: number };
  peers: { kind: 'known'; oldest: Peer[] } | { kind: 'unknown'; reason: string };
  error?: string;
}

/** Looks at one Envoy. */
export interface Looker {
  /**
   * Asks Envoy, or gives what it said a moment ago: asking takes at most 2 % of its main thread, and
   * listing its sockets at most 2 % of this process. Calls at the same moment share one look.
   */
  look(): Promise<Look>;
}

/** However expensive a poll is, its result is never older than this. */
const OLDEST_LOOK_MS = 5_000;
const INFO_MS = 10_000;
/** For all of a look. One Envoy that is slower must not hide another one, nor keep who asked. */
const LIMIT_MS = 2_000;

/** Creates the looker of one Envoy. */
export function createLooker(
  target: EnvoyTarget,
  options: { counter: EnvoyCounter; witness: Witness; clock: Clock },
): Looker {
  const { counter, witness, clock } = options;
  const { admin } = target;
  const cadence = createCadence({ checkIntervalMs: OLDEST_LOOK_MS, checkIntervalMinMs: 0 });
  const askInfo = createInfo(admin, clock);
  const readPeers = createPeerReader(target, clock);
  let accepted: { total: number; atMs: number } | undefined;
  let last: { look: Look; untilMs: number } | undefined;

  const rateOf = (total: number, atMs: number): number | undefined => {
    const before = accepted;
    accepted = { total, atMs };
    if (!before || atMs <= before.atMs || total < before.total) return undefined;
    return ((total - before.total) * 1_000) / (atMs - before.atMs);
  };

  const ask = async (): Promise<Look> => {
    const signal = AbortSignal.timeout(LIMIT_MS);
    const state = await admin.state(signal);
    const info = await askInfo(signal);
    const listeners = await admin.listeners(signal).catch(() => undefined);
    const counted = await counter.glance({ oldestMs: OLDEST_LOOK_MS }, signal);
    const accepted = await counter.accepted(signal);
    const rate = rateOf(accepted.total, clock.nowMs());
    cadence.noteCost(counted.tookMs + accepted.tookMs);
    const isClosed = await witness.isClosed(target);
    return {
      state,
      info,
      peers: await readPeers(signal),
      isClosed,
      ...(listeners ? { listeners: listeners.length } : {}),
      ...(rate === undefined ? {} : { acceptedPerSecond: rate }),
    };
  };

  const look = shareInFlight(async (): Promise<Look> => {
    // Also what a drain has counted meanwhile: it costs nothing more.
    const withCount = (seen: Look): Look => ({ ...seen, ...countedPart(counter.latest()) });
    if (last && clock.nowMs() < last.untilMs) return withCount(last.look);
    try {
      const fresh = await ask();
      last = { look: fresh, untilMs: clock.nowMs() + cadence.nextDelayMs(0) };
      return withCount(fresh);
    } catch (error) {
      last = undefined;
      const reason = messageOf(error);
      return { error: reason, peers: { kind: 'unknown', reason } };
    }
  });
  return { look };
}

function countedPart(counted: Counted | undefined): Pick<Look, 'count' | 'poll' | 'error'> {
  if (!counted) return {};
  const { at, tookMs } = counted;
  return {
    poll: { at, tookMs: Number(tookMs.toFixed(3)) },
    ...(counted.kind === 'known' ? { count: counted.count } : { error: counted.reason }),
  };
}

/** `/server_info` is the most expensive of the small answers (124 KB, docs/facts/envoy.md). */
function createInfo(
  admin: AdminClient,
  clock: Clock,
): (signal: AbortSignal) => Promise<ServerInfo> {
  let known: { info: ServerInfo; atMs: number } | undefined;
  return async (signal) => {
    if (!known || clock.nowMs() - known.atMs > INFO_MS) {
      const info = await admin.serverInfo(signal);
      known = { info, atMs: clock.nowMs() };
    }
    const { info, atMs } = known;
    const passed = Math.floor((clock.nowMs() - atMs) / 1_000);
    return { ...info, uptimeSeconds: info.uptimeSeconds + passed };
  };
}

function createPeerReader(
  { admin, process: envoy, generation }: EnvoyTarget,
  clock: Clock,
): (signal: AbortSignal) => Promise<Look['peers']> {
  const book = createPeerBook();
  const cadence = createCadence({ checkIntervalMs: OLDEST_LOOK_MS, checkIntervalMinMs: 0 });
  let last: { peers: Look['peers']; untilMs: number } | undefined;
  const unknown = (reason: string): Look['peers'] => ({ kind: 'unknown', reason });
  return async (signal) => {
    if (!envoy) return unknown('the process of this Envoy is not known (admin-address)');
    if (process.platform !== 'linux') return unknown('only Linux shows them (/proc)');
    if (last && clock.nowMs() < last.untilMs) return last.peers;
    const listeners = await admin.listeners(signal).catch((error: unknown) => messageOf(error));
    if (typeof listeners === 'string') {
      last = { peers: unknown(listeners), untilMs: clock.nowMs() + OLDEST_LOOK_MS };
      return last.peers;
    }
    // Who comes by a unix socket has no address to show.
    const ports = listeners
      .flatMap(({ addresses }) => addresses)
      .filter(({ kind }) => kind === 'ip')
      .map(({ text }) => Number(text.slice(text.lastIndexOf(':') + 1)));
    const startedMs = performance.now();
    const connections = listConnections(envoy.pid, ports);
    cadence.noteCost(performance.now() - startedMs);
    const peers = connections
      ? {
          kind: 'known' as const,
          oldest: book
            .oldest(connections, clock.nowMs())
            .map((peer) => ({ ...peer, generation: generation?.number ?? null })),
        }
      : unknown('/proc of Envoy can’t be read by this user');
    last = { peers, untilMs: clock.nowMs() + cadence.nextDelayMs(0) };
    return peers;
  };
}
