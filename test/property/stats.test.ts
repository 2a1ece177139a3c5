import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  busyOf,
  type ConnectionCount,
  type CountReading,
  listenerMatcher,
  parseStats,
  readAccepted,
  readConnections,
  readHttpConnections,
  type Stat,
} from '../../src/admin/stats.js';
import { holds } from './check.js';

const names = fc.oneof(
  fc.constant('web'),
  fc.constantFrom('web', 'edge.public', '127.0.0.1_80', '[__1]_80', 'admin.web', 'worker_0'),
  fc.constantFrom('__proto__', 'constructor', 'toString', 'a$b(c)', 'udp', 'main_thread'),
  fc.stringMatching(/^[a-z_.]{1,6}$/),
);

/** What a gauge may read: Envoy prints 64 bits without a sign, so one below zero is huge. */
const values = fc.oneof(
  { weight: 4, arbitrary: fc.nat(1_000) },
  fc.integer({ min: -1_000, max: 0 }),
  fc.constantFrom(0.5, -0, 2 ** 63, 2 ** 64 - 1, 1.7e308, -1.7e308),
);

const listenerGauges = ['cx_active', 'pre_cx_active', 'cx_total'];
const httpGauges = ['cx_active', 'cx_http1_active', 'cx_upgrades_active', 'rq_active'];
const udpGauges = ['sess_active', 'sess_total'];
const strays = ['cx_length_ms', 'cx_active.more', 'listener_filter_error'];
const gaugesOf = (gauges: readonly string[], ...prefixes: fc.Arbitrary<string>[]) =>
  fc.tuple(fc.oneof(...prefixes), fc.constantFrom(...gauges)).map((n) => n.join('.downstream_'));
const listenerNames = names.map((name) => `listener.${name}`);
const partNames = fc.tuple(listenerNames, fc.nat(3)).map(([name, n]) => `${name}.worker_${n}`);
const httpNames = names.map((name) => `http.${name}`);
const udpNames = names.map((name) => `udp.${name}`);
const adminNames = fc.constantFrom('listener.admin', 'listener.admin.main_thread', 'http.admin');
const statName = fc.oneof(
  gaugesOf(listenerGauges, listenerNames, listenerNames, partNames, adminNames),
  gaugesOf(httpGauges, httpNames, adminNames),
  gaugesOf(udpGauges, udpNames),
  gaugesOf([...listenerGauges, ...httpGauges, ...udpGauges, ...strays], listenerNames, udpNames),
  fc.string(),
);
/** Names come twice, as those of two connection managers with one stat_prefix do. */
const someStats: fc.Arbitrary<Stat[]> = fc
  .uniqueArray(statName, { minLength: 1, maxLength: 6 })
  .chain((pool) =>
    fc.array(fc.record({ name: fc.constantFrom(...pool), value: values }), { maxLength: 12 }),
  );
const ownCall: readonly Stat[] = [
  { name: 'listener.admin.downstream_cx_active', value: 1 },
  { name: 'http.admin.downstream_cx_active', value: 1 },
];
const stats = fc.oneof(
  someStats,
  someStats.map((stats) => [...ownCall, ...stats]),
);

describe('parseStats', () => {
  it('reads any JSON, or says that it is no list of stats', () => {
    const entry = fc.oneof(
      fc.record({ name: statName, value: values }),
      fc.record({ name: fc.jsonValue(), value: fc.jsonValue() }),
      fc.jsonValue(),
    );
    const json = fc.oneof(fc.jsonValue(), fc.record({ stats: fc.array(entry) }), deeplyNested);
    holds(
      fc.property(json, (json) => {
        const text = JSON.stringify(json);
        let parsed: Stat[];
        try {
          parsed = parseStats(JSON.parse(text));
        } catch (error) {
          assert.ok(error instanceof TypeError && /no list of stats/.test(error.message));
          return;
        }
        for (const stat of parsed) {
          assert.deepEqual(Object.keys(stat), ['name', 'value']);
          assert.ok(typeof stat.name === 'string' && Number.isFinite(stat.value));
        }
        checkSane(readConnections(parsed));
        checkSane(readHttpConnections(parsed));
      }),
    );
  });
});

describe('readConnections and readHttpConnections', () => {
  it('give finite sums, none below zero', () => {
    holds(
      fc.property(stats, fc.array(names, { maxLength: 2 }), (stats, ignored) => {
        checkSane(readConnections(stats, listenerMatcher(ignored)));
        checkSane(readHttpConnections(stats));
        const accepted = readAccepted(stats, listenerMatcher(ignored));
        assert.ok(Number.isFinite(accepted) && accepted >= 0, `${accepted} accepted`);
      }),
      2_000,
    );
  });

  it('do not depend on the order of the stats', () => {
    const shuffled = stats.chain((stats) =>
      fc.tuple(
        fc.constant(stats),
        fc.shuffledSubarray(stats, { minLength: stats.length, maxLength: stats.length }),
      ),
    );
    holds(
      fc.property(shuffled, ([one, other]) => {
        assert.deepEqual(sorted(readConnections(one)), sorted(readConnections(other)));
        assert.deepEqual(sorted(readHttpConnections(one)), sorted(readHttpConnections(other)));
        assert.equal(readAccepted(one), readAccepted(other));
      }),
    );
  });

  it('are not changed by the parts of listeners, nor by gauges of something else', () => {
    const part = fc
      .tuple(names, fc.constantFrom('worker_0', 'worker_31', 'main_thread'))
      .map((pair) => pair.join('.'));
    const more = fc.record({
      name: fc.oneof(
        fc
          .tuple(part, fc.constantFrom('pre_cx_active', 'cx_active', 'cx_total'))
          .map(([name, gauge]) => `listener.${name}.downstream_${gauge}`),
        names.map((name) => `cluster.${name}.upstream_cx_active`),
        names.map((name) => `listener.${name}.downstream_cx_active.more`),
      ),
      value: values,
    });
    holds(
      fc.property(stats, fc.array(more, { minLength: 1, maxLength: 4 }), (stats, more) => {
        const all = [...more, ...stats];
        assert.deepEqual(readConnections(all), readConnections(stats));
        assert.deepEqual(readHttpConnections(all), readHttpConnections(stats));
        assert.equal(readAccepted(all), readAccepted(stats));
      }),
    );
  });

  it('leave out what is ignored, and nothing else', () => {
    holds(
      fc.property(stats, fc.array(names, { maxLength: 3 }), (stats, ignored) => {
        const [all, some] = [readConnections(stats), readConnections(stats, isOneOf(ignored))];
        assert.equal(some.kind, all.kind);
        if (some.kind === 'unknown' || all.kind === 'unknown') return;
        const kept = Object.entries(all.count.byListener).filter(
          ([name]) => !ignored.includes(name),
        );
        assert.deepEqual(Object.entries(some.count.byListener), kept);
        assert.equal(some.count.activeRequests, all.count.activeRequests);
      }),
    );
  });
});

/** An Envoy as it is, and what its stats_matcher hides of each kind of gauge. */
const envoys = fc.record({
  http: fc.array(
    fc
      .record({ name: names, open: fc.nat(3), requests: fc.nat(3), inFilters: fc.nat(2) })
      .map((web) => ({ ...web, requests: web.open === 0 ? 0 : web.requests })),
    { maxLength: 3 },
  ),
  tcp: fc.array(fc.record({ name: names, open: fc.nat(3) }), { maxLength: 2 }),
  udp: fc.array(fc.record({ name: names, open: fc.nat(3) }), { maxLength: 2 }),
  hidden: fc.subarray([
    'listener.*.downstream_cx_active',
    'http.*.downstream_cx_active',
    'http.*.downstream_rq_active',
  ]),
});

type FakeEnvoy = typeof envoys extends fc.Arbitrary<infer T> ? T : never;

describe('what a stats_matcher hides', () => {
  it('is unknown, and never taken for 0', () => {
    holds(
      fc.property(envoys, (envoy) => {
        const shows = (kind: string): boolean => !envoy.hidden.includes(kind);
        const { http, tcp, udp } = envoy;
        const stats = statsOf(envoy);
        const web = total(http, 'open');
        const sessions = total(udp, 'open');
        const direct = total(tcp, 'open') + total(http, 'inFilters');
        const isBusy = total(http, 'requests') + direct + sessions > 0;

        const byListener = readConnections(stats);
        assert.equal(byListener.kind === 'known', shows('listener.*.downstream_cx_active'));
        if (byListener.kind === 'known') {
          assert.equal(byListener.count.open, web + direct + sessions);
          if (isBusy) assert.ok(busyOf(byListener.count) > 0, 'requests were lost');
        }
        const byManager = readHttpConnections(stats);
        assert.equal(byManager.kind === 'known', shows('http.*.downstream_cx_active'));
        if (byManager.kind === 'known') {
          assert.equal(byManager.count.open, web + sessions);
          if (total(http, 'requests') + sessions > 0) assert.ok(busyOf(byManager.count) > 0);
        }
      }),
      500,
    );
  });
});

describe('listenerMatcher', () => {
  const pattern = fc
    .array(fc.oneof(fc.constantFrom('*', '?', 'a', '.', '_'), fc.string({ maxLength: 1 })), {
      maxLength: 6,
    })
    .map((pieces) => pieces.join(''));
  const name = fc.stringMatching(/^[ab._]{0,6}$/);

  it('matches as globs do', () => {
    holds(
      fc.property(fc.array(pattern, { maxLength: 3 }), name, (patterns, name) => {
        const expected = patterns.some((pattern) => isMatch(pattern, name));
        assert.equal(listenerMatcher(patterns)(name), expected);
      }),
      500,
    );
  });

  it('matches a name without * and ? by itself alone', () => {
    const plain = fc.string().filter((text) => !/[*?]/.test(text));
    holds(
      fc.property(plain, plain, (pattern, name) => {
        assert.ok(listenerMatcher([pattern])(pattern));
        assert.equal(listenerMatcher([pattern])(name), pattern === name);
      }),
    );
  });
});

const deeplyNested = fc.integer({ min: 1, max: 3_000 }).map((depth) => {
  const text = `{"stats":${'['.repeat(depth)}${']'.repeat(depth)}}`;
  return JSON.parse(text) as unknown;
});

function checkSane(reading: CountReading): void {
  if (reading.kind === 'unknown') return;
  const { open, byListener, byKind, activeRequests = 0 } = reading.count;
  const numbers = [...Object.values(byListener), ...Object.values(byKind), activeRequests, open];
  for (const value of [...numbers, busyOf(reading.count)]) {
    assert.ok(Number.isFinite(value) && value >= 0, JSON.stringify(reading.count));
  }
  const listed = Object.values(byListener).reduce((sum, value) => sum + value, 0);
  assert.equal(open, listed);
}

/** The list of negative gauges is in the order of the reply. */
function sorted(reading: CountReading): CountReading {
  if (reading.kind === 'unknown') return reading;
  const count: ConnectionCount = { ...reading.count, negative: [...reading.count.negative].sort() };
  return { kind: 'known', count };
}

function isOneOf(names: readonly string[]): (name: string) => boolean {
  return (name) => names.includes(name);
}

/** What Envoy shows with `usedonly`; its own admin is always in use. */
function statsOf({ http, tcp, udp, hidden }: FakeEnvoy): Stat[] {
  const all: [kind: string, stat: Stat][] = [];
  const add = (kind: string, name: string, value: number): void => {
    all.push([kind, { name: kind.replace('*', name), value }]);
  };
  for (const kind of ['listener', 'http']) add(`${kind}.*.downstream_cx_active`, 'admin', 1);
  add('http.*.downstream_rq_active', 'admin', 1);
  for (const { name, open, requests, inFilters } of http) {
    add('listener.*.downstream_cx_active', name, open);
    add('listener.*.downstream_pre_cx_active', name, inFilters);
    add('http.*.downstream_cx_active', name, open);
    add('http.*.downstream_rq_active', name, requests);
  }
  for (const { name, open } of tcp) add('listener.*.downstream_cx_active', name, open);
  for (const { name, open } of udp) add('udp.*.downstream_sess_active', name, open);
  return all.filter(([kind]) => !hidden.includes(kind)).map(([, stat]) => stat);
}

function total<K extends string>(entries: readonly Readonly<Record<K, number>>[], key: K): number {
  return entries.reduce((sum, entry) => sum + entry[key], 0);
}

/** Globs, as they are defined: one character at a time. */
function isMatch(pattern: string, name: string): boolean {
  if (pattern === '') return name === '';
  if (pattern.startsWith('*')) {
    return isMatch(pattern.slice(1), name) || (name !== '' && isMatch(pattern, name.slice(1)));
  }
  const isHead = name !== '' && (pattern.startsWith('?') || pattern[0] === name[0]);
  return isHead && isMatch(pattern.slice(1), name.slice(1));
}
