/** One gauge or counter of Envoy. */
export interface Stat {
  name: string;
  value: number;
}

/** Open connections and requests, as the gauges of one reply add up. */
export interface ConnectionCount {
  /** Open connections by listener (its stat name) and UDP sessions by `udp.<prefix>`; ignored ones left out. */
  byListener: Readonly<Record<string, number>>;
  /** The sum of `byListener`: what has to end before Envoy may stop. */
  open: number;
  byKind: ConnectionKinds;
  /** HTTP requests (streams) under way; an upgraded connection is one. Undefined: not in the reply. */
  activeRequests: number | undefined;
  /** Gauges that were below zero; they count as 0. */
  negative: readonly string[];
}

/**
 * What connections carry. `http1`: without upgraded ones, which are `websocket`. `tcp`: those that no HTTP connection
 * manager owns, TCP proxies and those still in listener filters. `udp`: sessions.
 */
export const CONNECTION_KINDS = ['http1', 'http2', 'http3', 'tcp', 'websocket', 'udp'] as const;

/** Open connections by what they carry. */
export type ConnectionKinds = Record<(typeof CONNECTION_KINDS)[number], number>;

/** None of any kind. */
export function noConnections(): ConnectionKinds {
  return Object.fromEntries(CONNECTION_KINDS.map((kind) => [kind, 0])) as ConnectionKinds;
}

/** How a reply's gauges are to be read. */
export type CountReading =
  | { kind: 'known'; count: ConnectionCount }
  /** Not one gauge of open connections, not even admin's own: a stats_matcher hides them. Not zero. */
  | { kind: 'unknown' };

/** RE2 filter of the gauges that tell how many connections are open, of which kind, and the active requests. */
export const DETAIL_FILTER =
  '^(listener\\..*\\.downstream(_pre)?_cx_active|udp\\..*\\.downstream_sess_active|http\\..*\\.downstream_(cx_active|cx_http[123]_active|cx_upgrades_active|rq_active))$';

/** RE2 filter of the counters that grow with each new connection. */
export const ACCEPTED_FILTER =
  '^(listener\\..*\\.downstream_cx_total|udp\\..*\\.downstream_sess_total)$';

/** RE2 filter of the UDP sessions and what they have passed on, in both directions. */
export const UDP_FILTER = '^udp\\..*\\.downstream_sess_(active|rx_datagrams|tx_datagrams)$';

const LISTENER = /^listener\.(.+)\.downstream_(?:pre_)?cx_(?:active|total)$/;
const UDP = /^(udp\..+)\.downstream_sess_(?:active|total)$/;
const HTTP =
  /^http\.(.+)\.downstream_(cx_active|cx_http[123]_active|cx_upgrades_active|rq_active)$/;
/**
 * A listener for Envoy itself: what it has open is the other end of an upstream connection, whose client is
 * counted at the listener that it came in by. One with a stat_prefix of its own can't be told apart.
 */
const INTERNAL = 'envoy_internal_';
/** Parts of a listener's gauge; summing them would count each connection twice (docs/facts/envoy.md). */
const PART = /\.(worker_\d+|main_thread)$/;

/** RE2 filter of what shows that there are TCP proxies; they have no gauge of what is open. */
export const TCP_PROXY_FILTER = '^tcp\\..*\\.downstream_cx_total$';

/** What {@link UDP_FILTER} finds, added up; undefined: nothing. */
export function readDatagrams(
  stats: readonly Stat[],
): { sessions: number; datagrams: number } | undefined {
  if (stats.length === 0) return undefined;
  const sum = (of: RegExp): number =>
    stats.filter(({ name }) => of.test(name)).reduce((all, { value }) => all + value, 0);
  return { sessions: sum(/_active$/), datagrams: sum(/_datagrams$/) };
}

/** Reads the JSON of `/stats?format=json`; throws a TypeError when it is something else. */
export function parseStats(json: unknown): Stat[] {
  const stats = (json as { stats?: unknown } | null)?.stats;
  if (!Array.isArray(stats)) throw new TypeError('there is no list of stats');
  return stats.filter(isStat).map(({ name, value }) => ({ name, value }));
}

/**
 * Adds up the gauges of one reply. Our own call is a connection on the admin listener, so
 * `listener.admin.*` is there whenever listener gauges can be seen at all: a reply without any is
 * unknown, not 0, while a listener that is absent was never touched and has none.
 */
export function readConnections(
  stats: readonly Stat[],
  isIgnored: (listener: string) => boolean = () => false,
): CountReading {
  if (!stats.some(({ name }) => isListenerGauge(name))) return { kind: 'unknown' };
  const found = addUp(stats, (name) => countedName(name, LISTENER.exec(name)?.[1]), isIgnored);
  return { kind: 'known', count: addKinds(stats, { ...found, isIgnored }) };
}

/** Whether any gauge is there of a listener that is not admin's own: a stats_matcher may hide just those. */
export function showsListeners(stats: readonly Stat[]): boolean {
  return stats.some(({ name }) => {
    const listener = LISTENER.exec(name)?.[1];
    return listener !== undefined && listener !== 'admin' && !PART.test(listener);
  });
}

/** Whether the gauges of connection managers are there, by which HTTP/3 is counted as well. */
export function showsHttp(stats: readonly Stat[]): boolean {
  return httpGauges(stats).showsConnections;
}

/**
 * What is open by the sockets that the kernel shows, where `listener.*` is hidden; HTTP/3 and UDP have none
 * of their own, and come from the gauges.
 *
 * @param byListener open sockets by the listener's default stat name
 */
export function readSockets(
  stats: readonly Stat[],
  byListener: Readonly<Record<string, number>>,
  isIgnored: (listener: string) => boolean,
): ConnectionCount {
  const { open, negative } = addUp(stats, (name) => UDP.exec(name)?.[1], isIgnored);
  for (const [name, sockets] of Object.entries(byListener)) open.set(name, sockets);
  const { cx_http3_active: http3 } = httpGauges(stats).totals;
  if (http3 > 0) open.set('http3', http3);
  return addKinds(stats, { open, negative, isIgnored });
}

/** Adds up what several Envoys have open. */
export function sumConnections(counts: readonly ConnectionCount[]): ConnectionCount {
  const byListener: Record<string, number> = {};
  const byKind = noConnections();
  for (const count of counts) {
    for (const [name, open] of Object.entries(count.byListener)) {
      byListener[name] = (byListener[name] ?? 0) + open;
    }
    for (const kind of CONNECTION_KINDS) byKind[kind] += count.byKind[kind];
  }
  const requests = counts.map(({ activeRequests }) => activeRequests);
  return {
    byListener,
    byKind,
    open: counts.reduce((sum, { open }) => sum + open, 0),
    activeRequests: requests.includes(undefined)
      ? undefined
      : requests.reduce<number>((sum, active) => sum + (active ?? 0), 0),
    negative: counts.flatMap(({ negative }) => negative),
  };
}

/** Open connections by `http.*` alone, where `listener.*` is hidden: TCP proxies are not in it. */
export function readHttpConnections(stats: readonly Stat[]): CountReading {
  if (!httpGauges(stats).showsConnections) return { kind: 'unknown' };
  const isIgnored = (): boolean => false;
  const found = addUp(stats, (name) => countedByManager(name), isIgnored);
  return { kind: 'known', count: addKinds(stats, { ...found, isIgnored }) };
}

/** Connections accepted so far; grows with each new one. */
export function readAccepted(
  stats: readonly Stat[],
  isIgnored: (listener: string) => boolean = () => false,
): number {
  let total = 0;
  for (const { name, value } of stats) {
    const counted = countedName(name, LISTENER.exec(name)?.[1]);
    if (counted !== undefined && !isIgnored(counted)) total += amountOf(value);
  }
  return total;
}

/** Turns `ignore-listeners` into a test: stat names, or globs with `*` and `?`. */
export function listenerMatcher(patterns: readonly string[]): (listener: string) => boolean {
  const matchers = patterns.map((pattern) => {
    const source = pattern
      .replace(/[.+^${}()|[\]\\]/g, '\\$&')
      .replaceAll('*', '.*')
      .replaceAll('?', '.');
    return new RegExp(`^${source}$`);
  });
  return (listener) => matchers.some((matcher) => matcher.test(listener));
}

/**
 * What a drain by `drain-until: requests` waits for: everything but idle HTTP connections. Where the
 * requests can't be seen, every open connection may carry one.
 * With `ignore-listeners` it errs towards waiting: requests on ignored listeners can't be told apart.
 */
export function busyOf(count: ConnectionCount): number {
  if (count.activeRequests === undefined || count.open === 0) return count.open;
  return count.activeRequests + count.byKind.tcp + count.byKind.udp;
}

function isStat(entry: unknown): entry is Stat {
  const { name, value } = (entry ?? {}) as { name?: unknown; value?: unknown };
  return typeof name === 'string' && typeof value === 'number' && Number.isFinite(value);
}

/**
 * Envoy prints 64 bits without a sign: a gauge that was decremented once too often reads 2^64 - 1
 * (envoyproxy/envoy issue 22390).
 */
function isBelowZero(value: number): boolean {
  return value < 0 || value > Number.MAX_SAFE_INTEGER;
}

function amountOf(value: number): number {
  return isBelowZero(value) ? 0 : value;
}

/** Whether this shows that `downstream_cx_active` of listeners is not hidden; admin's own does as well. */
function isListenerGauge(name: string): boolean {
  const listener = LISTENER.exec(name)?.[1];
  return listener !== undefined && name.endsWith('.downstream_cx_active') && !PART.test(listener);
}

function isInternal(listener: string): boolean {
  return listener.startsWith(INTERNAL);
}

/** Connections of internal listeners that are HTTP are in `http.*` too: for the sum to be compared with it. */
function internalConnections(stats: readonly Stat[]): number {
  return stats.reduce((sum, { name, value }) => {
    const listener = LISTENER.exec(name)?.[1];
    const isCounted = listener !== undefined && isInternal(listener) && !PART.test(listener);
    return isCounted ? sum + amountOf(value) : sum;
  }, 0);
}

function addUp(
  stats: readonly Stat[],
  countedAs: (name: string) => string | undefined,
  isIgnored: (listener: string) => boolean,
): { open: Map<string, number>; negative: string[] } {
  const open = new Map<string, number>();
  const negative: string[] = [];
  for (const { name, value } of stats) {
    const counted = countedAs(name);
    if (counted === undefined) continue;
    if (isBelowZero(value) && !isIgnored(counted)) negative.push(name);
    open.set(counted, (open.get(counted) ?? 0) + amountOf(value));
  }
  return { open, negative };
}

function countedByManager(name: string): string | undefined {
  const [, prefix, gauge] = HTTP.exec(name) ?? [];
  if (gauge === 'cx_active' && prefix !== 'admin') return `http.${prefix}`;
  return UDP.exec(name)?.[1];
}

function countedName(name: string, listener: string | undefined): string | undefined {
  if (listener === undefined) return UDP.exec(name)?.[1];
  return listener === 'admin' || isInternal(listener) || PART.test(listener) ? undefined : listener;
}

function addKinds(
  stats: readonly Stat[],
  found: {
    open: ReadonlyMap<string, number>;
    isIgnored: (listener: string) => boolean;
    negative: readonly string[];
  },
): ConnectionCount {
  const http = httpGauges(stats);
  const sum = (pairs: readonly [string, number][]): number =>
    pairs.reduce((total, [, count]) => total + count, 0);
  const isUdp = ([name]: readonly [string, number]): boolean => name.startsWith('udp.');
  const all = [...found.open];
  const counted = all.filter(([name]) => !found.isIgnored(name));
  const udp = sum(counted.filter(isUdp));
  const open = sum(counted);
  // http.* does not tell listeners apart, so what is no HTTP is known for all of them together only.
  const notUdp = sum(all.filter((pair) => !isUdp(pair))) + internalConnections(stats);
  const tcpOfAll = notUdp - http.totals.cx_active;
  return {
    byListener: Object.fromEntries(counted),
    negative: found.negative,
    open,
    byKind: {
      // Envoy counts an upgraded HTTP/1 connection as both; over HTTP/2 it is a stream of a connection.
      http1: Math.max(0, http.totals.cx_http1_active - http.totals.cx_upgrades_active),
      http2: http.totals.cx_http2_active,
      http3: http.totals.cx_http3_active,
      tcp: Math.max(0, Math.min(tcpOfAll, open - udp)),
      websocket: http.totals.cx_upgrades_active,
      udp,
    },
    activeRequests: http.showsRequests ? http.totals.rq_active : undefined,
  };
}

/** Our own call is a connection and a request on admin: where its gauges are missing, all are hidden. */
function httpGauges(stats: readonly Stat[]): {
  showsConnections: boolean;
  showsRequests: boolean;
  totals: HttpTotals;
} {
  const totals = {
    cx_active: 0,
    cx_http1_active: 0,
    cx_http2_active: 0,
    cx_http3_active: 0,
    cx_upgrades_active: 0,
    rq_active: 0,
  };
  const seen = new Set<string>();
  for (const { name, value } of stats) {
    const [, prefix = '', gauge = ''] = HTTP.exec(name) ?? [];
    if (prefix === '') continue;
    seen.add(gauge);
    if (prefix !== 'admin') totals[gauge as keyof HttpTotals] += amountOf(value);
  }
  return { showsConnections: seen.has('cx_active'), showsRequests: seen.has('rq_active'), totals };
}

interface HttpTotals {
  cx_active: number;
  cx_http1_active: number;
  cx_http2_active: number;
  cx_http3_active: number;
  cx_upgrades_active: number;
  rq_active: number;
}
