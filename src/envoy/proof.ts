import { type Contents, WANTED_KINDS, type Wanted } from '../admin/contents.js';
import type { DumpedListener, ListenAddress, RunningListener } from '../admin/listeners.js';
import type { Subscription } from '../admin/subscriptions.js';

/** What an Envoy serves, as it shows it. */
export interface Serving {
  listeners: readonly RunningListener[];
  configs: readonly DumpedListener[];
  /** By stat name. */
  subscriptions: ReadonlyMap<string, Subscription>;
  contents: Contents;
  /** Sockets that it listens on, as `tcp 127.0.0.1:80`; undefined: they can't be seen. */
  bound: ReadonlySet<string> | undefined;
}

/** Something that a new generation lacks. */
export interface Gap {
  what: string;
  why: string;
  /**
   * `explained`: the new bootstrap does not have it; `removed`: its source does not name it any more, which may
   * be on purpose; `fault`: it was not received, or could not be put into effect.
   */
  kind: 'explained' | 'removed' | 'fault';
  /** It may still come, and until then clients are answered by the generation in service. */
  mayCome: boolean;
}

/**
 * What a LIVE Envoy lacks of what the one in service serves, and what of its own configuration it has
 * not received. LIVE by itself says nothing about listeners, clusters, routes and secrets
 * (docs/facts/envoy.md).
 *
 * @param before undefined: nothing is in service
 */
export function gapsOf(now: Serving, before: Serving | undefined): Gap[] {
  const gaps = subscriptionGaps(now, before);
  const more = contentGaps(now, before).filter(
    ({ what }) => !gaps.some((gap) => gap.what === what),
  );
  return [...(before ? listenerGaps(now, before) : []), ...gaps, ...more];
}

/** `127.0.0.1:10000 (listener web): cannot bind …`. */
export function describeGap({ what, why }: Gap): string {
  return `${what}: ${why}`;
}

/** Whether clients of one address reach the other one too: a wildcard takes every address of its port. */
export function covers(one: ListenAddress, other: ListenAddress): boolean {
  if (one.kind !== other.kind) return false;
  if (one.text === other.text) return true;
  const [wildcard, port] = /^(?:0\.0\.0\.0|\[::\]):(\d+)$/.exec(one.text) ?? [];
  return wildcard !== undefined && one.kind === 'ip' && other.text.endsWith(`:${port}`);
}

function listenerGaps(now: Serving, before: Serving): Gap[] {
  return before.listeners.flatMap((listener) =>
    listener.addresses.flatMap((address) => {
      const gap = addressGap({ listener, address, now, before });
      return gap ? [gap] : [];
    }),
  );
}

interface Sought {
  listener: RunningListener;
  address: ListenAddress;
  now: Serving;
  before: Serving;
}

function addressGap(sought: Sought): Gap | undefined {
  const { listener, address, now, before } = sought;
  const there = now.listeners.filter((one) => one.addresses.some((its) => covers(its, address)));
  const isSame = now.listeners.some(({ name }) => name === listener.name);
  const old = configOf(before, listener.name);
  if (old?.takesAnyPort && isSame) return undefined;
  if (there.length === 0) return missing(sought, isSame);
  const lost = lostSockets(sought);
  if (lost.length === 0) return undefined;
  // TCP and UDP (HTTP/3) share an address: the listener that is gone is the one that is not there by name.
  const isThere = there.some(({ name }) => name === listener.name);
  if (!isThere) return missing(sought, isSame);
  const others = before.listeners.filter((one) =>
    one.addresses.some(({ text }) => text === address.text),
  );
  const isAnothers = others.some(({ name }) => !there.some((one) => one.name === name));
  if (isAnothers) return undefined;
  return {
    what: `${address.text} (listener ${listener.name})`,
    why: `nothing listens there by ${lost.join(' and ')} (is bind_to_port false?)`,
    kind: 'removed',
    mayCome: true,
  };
}

function missing({ listener, address, now, before }: Sought, isSame: boolean): Gap {
  const what = `${address.text} (listener ${listener.name})`;
  const lds = now.subscriptions.get(LDS);
  const wasDynamic = configOf(before, listener.name)?.isDynamic === true;
  const hasNone = now.listeners.length === 0;
  if (wasDynamic && !lds && !before.subscriptions.has(LDS)) {
    const why = 'LDS did not send it; a stats_matcher hides why (listener_manager.lds)';
    return { what, why, kind: 'removed', mayCome: true };
  }
  if (!wasDynamic || !lds) {
    const why = wasDynamic
      ? 'the new bootstrap has no LDS'
      : 'the new bootstrap does not have it any more';
    return { what, why, kind: hasNone ? 'removed' : 'explained', mayCome: false };
  }
  const config = configOf(now, listener.name);
  if (config?.error) {
    const isTaken = /Address already in use/.test(config.error) && !config.reusesPort;
    const why = isTaken ? NOT_SHARED : config.error;
    return { what, why, kind: 'fault', mayCome: false };
  }
  const fault = faultOf(lds);
  if (fault) return { what, why: `LDS: ${fault}`, kind: 'fault', mayCome: lds.rejected === 0 };
  const why = isSame
    ? 'LDS has moved that listener'
    : 'LDS no longer has it, and the one in service still has it';
  return { what, why, kind: 'removed', mayCome: true };
}

const LDS = 'listener_manager.lds';

const NOT_SHARED =
  'it has enable_reuse_port: false, so no other Envoy can listen there: leave it out (true is Envoy’s default) and stop and start Envoy once; or always stop and start it';

function configOf({ configs }: Serving, name: string): DumpedListener | undefined {
  return configs.find((one) => one.name === name);
}

/** Protocols by which the old one listens on an address and the new one does not. */
function lostSockets({ address, now, before }: Sought): string[] {
  const { bound } = now;
  if (address.kind !== 'ip' || !bound || !before.bound) return [];
  const seen = [...bound].map((socket) => socket.split(' '));
  return PROTOCOLS.filter(
    (protocol) =>
      before.bound?.has(`${protocol} ${address.text}`) &&
      !seen.some(([its, text = '']) => its === protocol && covers({ kind: 'ip', text }, address)),
  ).map((protocol) => protocol.toUpperCase());
}

const PROTOCOLS = ['tcp', 'udp'] as const;

/** The part of {@link gapsOf} that one question to Envoy tells. */
export function subscriptionGaps(
  now: Pick<Serving, 'subscriptions'>,
  before: Pick<Serving, 'subscriptions'> | undefined,
): Gap[] {
  const gaps: Gap[] = [];
  for (const [source, one] of now.subscriptions) {
    if (one.received > 0 || ON_DEMAND.test(source)) continue;
    const old = before?.subscriptions.get(source);
    const fault = faultOf(one);
    // Not received by the one in service either: nothing gets worse.
    if (old ? old.received === 0 : !fault) continue;
    gaps.push({
      what: one.what,
      why: fault ?? 'nothing was received',
      // A cluster of its own without an answer yet must not hold up the rest.
      kind: one.isCluster && !old ? 'explained' : 'fault',
      // LIVE has not waited for it, or others serve meanwhile.
      mayCome: one.rejected === 0 && (source === LDS || fault === undefined),
    });
  }
  return gaps;
}

/** Virtual hosts come when a request asks for them. */
const ON_DEMAND = /\.vhds\./;

function faultOf({ received, rejected, failed, timedOut }: Subscription): string | undefined {
  if (received > 0) return undefined;
  if (rejected > 0) return 'what came was rejected';
  if (timedOut > 0) return 'nothing came within initial_fetch_timeout';
  return failed > 0 ? 'its source can’t be reached or read' : undefined;
}

/**
 * What is not there although its listeners refer to it, or the one in service has it. An empty answer counts
 * as received, and a stats_matcher may hide the counters: this is seen all the same.
 */
function contentGaps(now: Serving, before: Serving | undefined): Gap[] {
  const lacks = ({ configs, contents }: Serving, kind: keyof Wanted): string[] => {
    const names = new Set(configs.flatMap(({ wants }) => wants[kind]));
    return [...names].filter((name) => !contents[kind].includes(name));
  };
  const fault = (what: string, why: string): Gap => ({ what, why, kind: 'fault', mayCome: false });
  const named = WANTED_KINDS.flatMap((kind) => {
    const lacked = before ? lacks(before, kind) : [];
    return lacks(now, kind)
      .filter((name) => !lacked.includes(name))
      .map((name) => fault(CONTENT_NAMES[kind](name), 'its source has not sent it'));
  });
  const emptied = [...(before?.contents.endpoints ?? [])].filter(
    ([cluster, hasOne]) => hasOne && now.contents.endpoints.get(cluster) === false,
  );
  return [
    ...named,
    ...emptied.map(([cluster]) =>
      fault(`endpoints of cluster ${cluster}`, 'it has none, and the one in service has some'),
    ),
  ];
}

/** As {@link Subscription.what} calls them. */
const CONTENT_NAMES: Readonly<Record<keyof Wanted, (name: string) => string>> = {
  routes: (name) => `routes ${name} (RDS)`,
  secrets: (name) => `secret ${name} (SDS)`,
  filters: (name) => `filter ${name} (ECDS)`,
};
