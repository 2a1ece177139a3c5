import type { AdminClient, StatsReply } from '../admin/client.js';
import {
  ACCEPTED_FILTER,
  type ConnectionCount,
  DETAIL_FILTER,
  listenerMatcher,
  readAccepted,
  readConnections,
  readHttpConnections,
  readSockets,
  type Stat,
  showsHttp,
  showsListeners,
  TCP_PROXY_FILTER,
} from '../admin/stats.js';
import { type Clock, systemClock } from '../clock.js';
import { isAlive } from '../host/process-identity.js';
import { type CountedAddress, countSockets } from '../host/sockets.js';
import { type Budget, createBudget } from './budget.js';
import { createCadence } from './cadence.js';
import type { EnvoyTarget } from './envoys.js';

/** What one Envoy has open, as far as that can be seen, and when that was asked. */
export type Counted = Found & {
  /** ISO 8601. */
  at: string;
  tookMs: number;
};

type Found =
  /** `note`: what to say once of how it was counted. */
  | { kind: 'known'; count: ConnectionCount; note?: string }
  /** In words for the user; Envoy has answered all the same. */
  | { kind: 'unknown'; reason: string };

/** Counts what one Envoy has open. Calls reject as {@link AdminClient}'s do. */
export interface EnvoyCounter {
  /** Asks Envoy now. */
  count(signal?: AbortSignal): Promise<Counted>;
  /** What was counted a moment ago for any caller, or polls: as often as is affordable next to a drain. */
  glance(how: Glance, signal?: AbortSignal): Promise<Counted>;
  /** The newest count, whichever part of this process asked for it. */
  latest(): Counted | undefined;
  /** Connections accepted so far. */
  accepted(signal?: AbortSignal): Promise<{ total: number; tookMs: number }>;
  /** What all polls of this process may cost this Envoy. */
  readonly budget: Budget;
}

/** How recent it has to be for a caller that only displays it. */
export interface Glance {
  /** However expensive it is, it is never older than this. */
  oldestMs: number;
  /** For so long what was counted holds while Envoy has as many files open as then. */
  unseenMs?: number;
  /** Asks for this part only of what would be affordable; 1 unless given. */
  thrift?: number;
}

/** The counters of a process: one for each Envoy, whichever of its parts asks. */
export interface Counters {
  of(target: EnvoyTarget): EnvoyCounter;
}

/** Left to a drain, in milliseconds of Envoy's main thread: who only looks does not spend it. */
const RESERVED_MS = 100;

/** Creates the counters; `ignoreListeners` are left out everywhere. */
export function createCounters(options: {
  ignoreListeners: readonly string[];
  clock?: Clock;
}): Counters {
  const { ignoreListeners, clock = systemClock } = options;
  const isIgnored = listenerMatcher(ignoreListeners);
  const known = new Map<string, { target: EnvoyTarget; ledger: CountLedger }>();
  const ledgerOf = (target: EnvoyTarget): CountLedger => {
    for (const [address, { target: one }] of known) {
      if (one.process && !isAlive(one.process)) known.delete(address);
    }
    const { address } = target.admin;
    const found = known.get(address) ?? { target, ledger: createLedger(clock) };
    known.set(address, found);
    return found.ledger;
  };
  return { of: (target) => createCounter(target, { ledger: ledgerOf(target), isIgnored, clock }) };
}

/** What is remembered of one Envoy. */
interface CountLedger {
  budget: Budget;
  cadence: ReturnType<typeof createCadence>;
  last: { counted: Counted; files: number | undefined; atMs: number } | undefined;
  /** Whether listener gauges show, where none but admin's own has ever been touched. */
  showsUntouched: boolean | undefined;
  hasTcpProxies: boolean | undefined;
  /** Every address that it has listened on: a connection may outlive its listener. */
  addresses: Map<string, CountedAddress>;
}

function createLedger({ nowMs }: Clock): CountLedger {
  return {
    budget: createBudget(nowMs),
    cadence: createCadence({ checkIntervalMs: Number.POSITIVE_INFINITY, checkIntervalMinMs: 0 }),
    last: undefined,
    showsUntouched: undefined,
    hasTcpProxies: undefined,
    addresses: new Map(),
  };
}

function createCounter(
  target: EnvoyTarget,
  parts: { ledger: CountLedger; isIgnored: (listener: string) => boolean; clock: Clock },
): EnvoyCounter {
  const { ledger, isIgnored, clock } = parts;
  const { budget, cadence } = ledger;
  const ask = async (
    query: Parameters<AdminClient['stats']>[0],
    signal?: AbortSignal,
  ): Promise<StatsReply> => {
    const reply = await target.admin.stats(query, signal);
    cadence.noteCost(reply.tookMs);
    budget.spend(cadence.costMs());
    return reply;
  };
  const count = async (signal?: AbortSignal): Promise<Counted> => {
    const files = target.openFiles?.();
    const at = new Date().toISOString();
    const { stats, tookMs } = await ask({ type: 'Gauges', filter: DETAIL_FILTER }, signal);
    const listeners = readConnections(stats, isIgnored);
    const isShown =
      listeners.kind === 'known' && (await showsAll(target.admin, { stats, ledger, signal }));
    const found = isShown
      ? { kind: 'known' as const, count: listeners.count }
      : await countHidden(target, { stats, ledger, isIgnored, signal });
    const counted: Counted = { ...found, at, tookMs };
    // Connections over QUIC share one file.
    const isSeen = counted.kind === 'known' && counted.count.byKind.http3 === 0;
    ledger.last = { counted, files: isSeen ? files : undefined, atMs: clock.nowMs() };
    return counted;
  };
  const isFresh = ({ oldestMs, unseenMs = 0, thrift = 1 }: Glance): boolean => {
    const { last } = ledger;
    if (!last) return false;
    const ageMs = clock.nowMs() - last.atMs;
    const isSame = last.files !== undefined && last.files === target.openFiles?.();
    if (isSame && ageMs < unseenMs) return true;
    if (ageMs >= oldestMs) return false;
    return ageMs < thrift * cadence.nextDelayMs(0) || budget.waitMs(RESERVED_MS) > 0;
  };
  return {
    budget,
    count,
    glance: async (how, signal) =>
      ledger.last && isFresh(how) ? ledger.last.counted : count(signal),
    latest: () => ledger.last?.counted,
    accepted: async (signal) => {
      const { stats, tookMs } = await ask({ type: 'Counters', filter: ACCEPTED_FILTER }, signal);
      return { total: readAccepted(stats, isIgnored), tookMs };
    },
  };
}

interface Asked {
  stats: readonly Stat[];
  ledger: CountLedger;
  signal: AbortSignal | undefined;
}

/**
 * No listener gauge but admin's own: none was ever touched, or a stats_matcher hides just the others.
 * Asked once for each Envoy, with the gauges never touched.
 */
async function showsAll(admin: AdminClient, { stats, ledger, signal }: Asked): Promise<boolean> {
  if (showsListeners(stats)) return true;
  if (ledger.showsUntouched === undefined) {
    const query = { type: 'Gauges', filter: DETAIL_FILTER, alsoUnused: true } as const;
    const untouched = (await admin.stats(query, signal)).stats;
    ledger.showsUntouched =
      showsListeners(untouched) || (await admin.listeners(signal)).length === 0;
  }
  return ledger.showsUntouched;
}

/** Where `listener.*` is hidden: the kernel's sockets, and `http.*` for an Envoy whose sockets can't be read. */
async function countHidden(
  { admin, process: envoy, name }: EnvoyTarget,
  asked: Asked & { isIgnored: (listener: string) => boolean },
): Promise<Found> {
  const { stats, ledger, isIgnored, signal } = asked;
  const sockets = envoy && countSockets(envoy.pid, await addressesOf(admin, ledger, signal));
  if (sockets && (sockets.udp.length === 0 || showsHttp(stats))) {
    return {
      kind: 'known',
      count: readSockets(stats, sockets.byListener, isIgnored),
      note: `${name} shows no listener gauges (a stats_matcher hides them): counting its sockets in /proc`,
    };
  }
  if (sockets) {
    return unknown(
      `${name} shows neither listener nor http gauges, and HTTP/3 and UDP (${sockets.udp.join(', ')}) have no sockets that could be counted instead`,
    );
  }
  const http = readHttpConnections(stats);
  if (http.kind === 'unknown') {
    return unknown(`${name} shows neither listener nor http gauges, and its sockets can't be read`);
  }
  if (await hasTcpProxies(admin, ledger, signal)) {
    return unknown(
      `${name} shows no listener gauges, its sockets can't be read, and its TCP proxies have no other gauge`,
    );
  }
  const note = `${name} shows no listener gauges (a stats_matcher hides them): counting http.*, without TCP proxies`;
  return { kind: 'known', count: http.count, note };
}

function unknown(what: string): Found {
  return { kind: 'unknown', reason: `${what}: allow listener.* in stats_matcher` };
}

/** With every address seen so far, by the stat name that its listener has unless it is given another. */
async function addressesOf(
  admin: AdminClient,
  { addresses }: CountLedger,
  signal: AbortSignal | undefined,
): Promise<CountedAddress[]> {
  for (const listener of await admin.listeners(signal)) {
    const countedAs = listener.addresses[0]?.text.replaceAll(':', '_') ?? listener.name;
    for (const { kind, text } of listener.addresses) {
      if (kind !== 'internal') addresses.set(text, { kind, text, countedAs });
    }
  }
  return [...addresses.values()];
}

async function hasTcpProxies(
  admin: AdminClient,
  ledger: CountLedger,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  if (ledger.hasTcpProxies === undefined) {
    const query = { type: 'Counters', filter: TCP_PROXY_FILTER, alsoUnused: true } as const;
    ledger.hasTcpProxies = (await admin.stats(query, signal)).stats.length > 0;
  }
  return ledger.hasTcpProxies;
}
