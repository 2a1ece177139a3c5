import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  ACCEPTED_FILTER,
  busyOf,
  type ConnectionCount,
  DETAIL_FILTER,
  listenerMatcher,
  parseStats,
  readAccepted,
  readConnections,
  readHttpConnections,
  type Stat,
  sumConnections,
} from '../../src/admin/stats.js';

function statsOf(values: Readonly<Record<string, number>>): Stat[] {
  return Object.entries(values).map(([name, value]) => ({ name, value }));
}

function countOf(
  values: Readonly<Record<string, number>>,
  isIgnored?: (listener: string) => boolean,
): ConnectionCount {
  const reading = readConnections(statsOf(values), isIgnored);
  assert.equal(reading.kind, 'known');
  return reading.kind === 'known' ? reading.count : assert.fail();
}

/** What Envoy 1.40 shows of an HTTP listener, a TCP proxy and its own admin. */
const typical = {
  'listener.127.0.0.1_18001.downstream_cx_active': 7,
  'listener.127.0.0.1_18001.downstream_pre_cx_active': 1,
  'listener.127.0.0.1_18001.worker_0.downstream_cx_active': 4,
  'listener.127.0.0.1_18001.worker_1.downstream_cx_active': 3,
  'listener.0.0.0.0_18002.downstream_cx_active': 2,
  'listener.0.0.0.0_18002.worker_10.downstream_cx_active': 2,
  'listener.admin.downstream_cx_active': 1,
  'listener.admin.downstream_pre_cx_active': 1,
  'listener.admin.main_thread.downstream_cx_active': 1,
  'http.web.downstream_cx_active': 7,
  'http.web.downstream_cx_http1_active': 4,
  'http.web.downstream_cx_http2_active': 2,
  'http.web.downstream_cx_http3_active': 1,
  'http.web.downstream_cx_upgrades_active': 2,
  'http.web.downstream_rq_active': 5,
  'http.admin.downstream_cx_active': 1,
  'http.admin.downstream_cx_http1_active': 1,
  'http.admin.downstream_rq_active': 1,
};

describe('parseStats', () => {
  it('reads names and values, and drops what else an entry holds', () => {
    assert.deepEqual(parseStats({ stats: [{ name: 'a', value: 1, tags: [] }] }), [
      { name: 'a', value: 1 },
    ]);
  });

  it('leaves out entries that are no gauge: histograms, texts, holes', () => {
    const stats = [
      { histograms: { supported_quantiles: [] } },
      { name: 'text', value: '5' },
      { name: 5, value: 5 },
      { name: 'nan', value: Number.NaN },
      { value: 5 },
      { name: 'no value' },
      null,
      'listener.x.downstream_cx_active',
      5,
      { name: 'good', value: 0 },
    ];
    assert.deepEqual(parseStats({ stats }), [{ name: 'good', value: 0 }]);
  });

  it('reads an empty list as no stats', () => {
    assert.deepEqual(parseStats({ stats: [] }), []);
  });

  for (const json of [null, undefined, 5, 'stats', [], {}, { stats: null }, { stats: {} }]) {
    it(`refuses ${JSON.stringify(json)}`, () => {
      assert.throws(() => parseStats(json), TypeError);
    });
  }
});

describe('readConnections', () => {
  it('sums listeners with their connections in listener filters', () => {
    const count = countOf(typical);
    assert.equal(count.open, 10);
    assert.deepEqual(count.byListener, { '127.0.0.1_18001': 8, '0.0.0.0_18002': 2 });
  });

  it('leaves out the parts by worker, the main thread and the admin listener', () => {
    const count = countOf({
      'listener.a.worker_0.downstream_cx_active': 4,
      'listener.a.worker_12.downstream_pre_cx_active': 4,
      'listener.b.main_thread.downstream_cx_active': 4,
      'listener.admin.downstream_cx_active': 4,
      'listener.admin.main_thread.downstream_cx_active': 4,
    });
    assert.deepEqual(count.byListener, {});
    assert.equal(count.open, 0);
  });

  it('counts listeners whose names only look like admin or a worker', () => {
    const count = countOf({
      'listener.administration.downstream_cx_active': 1,
      'listener.my-admin.downstream_cx_active': 2,
      'listener.worker_0.downstream_cx_active': 4,
      'listener.worker_0.worker_1.downstream_cx_active': 100,
      'listener.a.worker_x.downstream_cx_active': 8,
      'listener.main_thread.downstream_cx_active': 16,
    });
    assert.equal(count.open, 31);
  });

  it('counts a listener whose stat_prefix begins with admin', () => {
    const count = countOf({
      'listener.admin.downstream_cx_active': 1,
      'listener.admin.web.downstream_cx_active': 5,
    });
    assert.deepEqual(count.byListener, { 'admin.web': 5 });
  });

  for (const name of ['constructor', '__proto__', 'toString']) {
    it(`counts a listener named ${name}`, () => {
      const count = countOf({
        [`listener.${name}.downstream_cx_active`]: 2,
        [`listener.${name}.downstream_pre_cx_active`]: 1,
      });
      assert.equal(count.open, 3);
      assert.deepEqual(Object.entries(count.byListener), [[name, 3]]);
    });
  }

  it('takes names with dots, brackets and dollars whole', () => {
    const count = countOf({
      'listener.[__1]_10000.downstream_cx_active': 1,
      'listener.edge.public.v2.downstream_cx_active': 2,
      'listener.a$b(c).downstream_pre_cx_active': 3,
    });
    assert.deepEqual(count.byListener, { '[__1]_10000': 1, 'edge.public.v2': 2, 'a$b(c)': 3 });
  });

  it('does not count other gauges of a listener', () => {
    const count = countOf({
      'listener.a.downstream_cx_active': 1,
      'listener.a.downstream_listener_filter_remote_close': 5,
      'listener.a.http.web.downstream_rq_active': 5,
      'listener.a.downstream_cx_active.more': 5,
      'listener.downstream_cx_active': 5,
      'cluster.x.upstream_cx_active': 5,
      'xlistener.a.downstream_cx_active': 5,
      'listener_manager.total_listeners_active': 5,
      'server.total_connections': 5,
    });
    assert.equal(count.open, 1);
  });

  it('adds UDP sessions under the name of their proxy', () => {
    const count = countOf({
      'listener.admin.downstream_cx_active': 1,
      'udp.dns.downstream_sess_active': 3,
      'udp.a.b.downstream_sess_active': 4,
      'udp.dns.downstream_sess_no_route': 9,
    });
    assert.deepEqual(count.byListener, { 'udp.dns': 3, 'udp.a.b': 4 });
    assert.equal(count.open, 7);
    assert.equal(count.byKind.udp, 7);
    assert.equal(count.byKind.tcp, 0);
  });

  it('counts a negative gauge as 0 and names it', () => {
    const count = countOf({
      'listener.a.downstream_cx_active': -3,
      'listener.b.downstream_cx_active': 2,
      'udp.c.downstream_sess_active': -1,
    });
    assert.equal(count.open, 2);
    assert.deepEqual(count.byListener, { a: 0, b: 2, 'udp.c': 0 });
    assert.deepEqual(count.negative, [
      'listener.a.downstream_cx_active',
      'udp.c.downstream_sess_active',
    ]);
  });

  it('counts a gauge that has wrapped around below zero as 0 and names it', () => {
    const name = 'listener.a.downstream_cx_active';
    const { open, negative } = countOf({ [name]: 2 ** 64 - 1, 'udp.b.downstream_sess_active': 2 });
    assert.deepEqual({ open, negative }, { open: 2, negative: [name] });
  });

  it('does not let one negative gauge eat another of the same listener', () => {
    const count = countOf({
      'listener.a.downstream_cx_active': 5,
      'listener.a.downstream_pre_cx_active': -5,
    });
    assert.equal(count.open, 5);
  });

  it('does not name negative gauges that are not counted', () => {
    const count = countOf(
      {
        'listener.admin.downstream_cx_active': -1,
        'listener.a.worker_0.downstream_cx_active': -1,
        'listener.skipped.downstream_cx_active': -1,
      },
      (name) => name === 'skipped',
    );
    assert.deepEqual(count.negative, []);
  });

  it('reads a reply with nothing but the admin listener as zero', () => {
    const count = countOf({ 'listener.admin.downstream_cx_active': 1 });
    assert.equal(count.open, 0);
    assert.equal(count.activeRequests, undefined);
  });

  it('reads a reply with listeners at 0 as zero', () => {
    assert.equal(countOf({ 'listener.a.downstream_cx_active': 0 }).open, 0);
  });

  it('reads a reply without any listener gauge as unknown, not as zero', () => {
    assert.deepEqual(readConnections([]), { kind: 'unknown' });
    assert.deepEqual(
      readConnections(
        statsOf({ 'http.web.downstream_cx_active': 0, 'udp.dns.downstream_sess_active': 0 }),
      ),
      { kind: 'unknown' },
    );
  });

  it('reads a reply with parts of listeners alone, or without their open connections, as unknown', () => {
    for (const name of [
      'listener.a.worker_0.downstream_cx_active',
      'listener.admin.main_thread.downstream_cx_active',
      'listener.a.downstream_pre_cx_active',
      'listener.a.downstream_cx_total',
    ]) {
      assert.deepEqual(readConnections(statsOf({ [name]: 0 })), { kind: 'unknown' }, name);
    }
  });

  it('knows a reply where every listener is ignored', () => {
    const count = countOf({ 'listener.a.downstream_cx_active': 5 }, () => true);
    assert.equal(count.open, 0);
    assert.deepEqual(count.byListener, {});
  });

  it('leaves out ignored listeners and UDP proxies by their names', () => {
    const count = countOf(
      {
        'listener.a.downstream_cx_active': 1,
        'listener.a.downstream_pre_cx_active': 1,
        'listener.b.downstream_cx_active': 2,
        'udp.dns.downstream_sess_active': 4,
      },
      listenerMatcher(['a', 'udp.*']),
    );
    assert.deepEqual(count.byListener, { b: 2 });
  });

  it('tells connections by what they carry', () => {
    assert.deepEqual(countOf({ ...typical, 'udp.dns.downstream_sess_active': 6 }).byKind, {
      // Two of four are upgraded.
      http1: 2,
      http2: 2,
      http3: 1,
      tcp: 3,
      websocket: 2,
      udp: 6,
    });
  });

  it('does not let an ignored HTTP listener hide TCP connections', () => {
    const count = countOf(
      {
        'listener.web.downstream_cx_active': 5,
        'listener.tcp.downstream_cx_active': 5,
        'http.web.downstream_cx_active': 5,
        'http.web.downstream_rq_active': 0,
      },
      listenerMatcher(['web']),
    );
    assert.equal(count.byKind.tcp, 5);
    assert.equal(busyOf(count), 5);
  });

  it('does not count TCP connections of an ignored listener', () => {
    const count = countOf(
      {
        'listener.web.downstream_cx_active': 3,
        'listener.tcp.downstream_cx_active': 5,
        'http.web.downstream_cx_active': 3,
      },
      listenerMatcher(['tcp']),
    );
    assert.ok(count.byKind.tcp <= count.open);
    assert.equal(count.open, 3);
  });

  it('adds the requests of all connection managers but admin’s', () => {
    const count = countOf({ ...typical, 'http.other.v1.downstream_rq_active': 4 });
    assert.equal(count.activeRequests, 9);
  });

  it('does not know the requests where no http gauge is in the reply', () => {
    assert.equal(countOf({ 'listener.a.downstream_cx_active': 2 }).activeRequests, undefined);
  });

  it('does not know the requests where only other http gauges are in the reply', () => {
    const count = countOf({
      'listener.a.downstream_cx_active': 2,
      'http.web.downstream_cx_active': 2,
      'http.admin.downstream_cx_active': 1,
    });
    assert.equal(count.activeRequests, undefined);
    assert.equal(busyOf(count), 2);
  });

  it('never has fewer than no TCP connections, though gauges are read one after another', () => {
    const count = countOf({
      'listener.a.downstream_cx_active': 3,
      'http.web.downstream_cx_active': 4,
      'http.web.downstream_rq_active': -2,
    });
    assert.equal(count.byKind.tcp, 0);
    assert.equal(count.activeRequests, 0);
  });
});

describe('readHttpConnections', () => {
  it('counts the connections of the connection managers where listeners are hidden', () => {
    const reading = readHttpConnections(
      statsOf({
        'http.web.downstream_cx_active': 3,
        'http.api.v2.downstream_cx_active': 4,
        'http.web.downstream_rq_active': 2,
        'http.admin.downstream_cx_active': 1,
        'http.admin.downstream_rq_active': 1,
      }),
    );
    assert.equal(reading.kind, 'known');
    if (reading.kind !== 'known') return;
    assert.equal(reading.count.open, 7);
    assert.deepEqual(reading.count.byListener, { 'http.web': 3, 'http.api.v2': 4 });
    assert.equal(reading.count.activeRequests, 2);
    assert.equal(reading.count.byKind.tcp, 0);
  });

  it('adds UDP sessions, which have gauges of their own', () => {
    const reading = readHttpConnections(
      statsOf({ 'http.web.downstream_cx_active': 3, 'udp.dns.downstream_sess_active': 4 }),
    );
    assert.equal(reading.kind, 'known');
    if (reading.kind !== 'known') return;
    assert.equal(reading.count.open, 7);
    assert.equal(reading.count.byKind.udp, 4);
    assert.equal(reading.count.byKind.tcp, 0);
  });

  it('reads admin’s gauges alone as zero, and none at all as unknown', () => {
    const reading = readHttpConnections(statsOf({ 'http.admin.downstream_cx_active': 1 }));
    assert.equal(reading.kind === 'known' && reading.count.open, 0);
    assert.deepEqual(readHttpConnections([]), { kind: 'unknown' });
    assert.deepEqual(
      readHttpConnections(statsOf({ 'http.web.downstream_cx_destroy_remote_active_rq': 1 })),
      { kind: 'unknown' },
    );
  });

  it('reads a reply that shows requests, but no connections, as unknown', () => {
    const requests = { 'http.admin.downstream_rq_active': 1, 'http.web.downstream_rq_active': 0 };
    assert.deepEqual(readHttpConnections(statsOf(requests)), { kind: 'unknown' });
  });

  it('counts a negative gauge as 0 and names it', () => {
    const reading = readHttpConnections(
      statsOf({ 'http.a.downstream_cx_active': -4, 'http.b.downstream_cx_active': 1 }),
    );
    assert.equal(reading.kind === 'known' && reading.count.open, 1);
    assert.deepEqual(reading.kind === 'known' && reading.count.negative, [
      'http.a.downstream_cx_active',
    ]);
  });

  it('adds up gauges of the same name, as connection managers with one stat_prefix have', () => {
    const gauges = ['udp.dns.downstream_sess_active', 'http.web.downstream_cx_active'];
    const stats = [...gauges, ...gauges].map((name, index) => ({ name, value: index + 1 }));
    const reading = readHttpConnections(stats);
    assert.deepEqual(reading.kind === 'known' && reading.count.byListener, {
      'udp.dns': 4,
      'http.web': 6,
    });
  });
});

describe('busyOf', () => {
  it('is requests, TCP connections and UDP sessions, without idle HTTP connections', () => {
    assert.equal(busyOf(countOf({ ...typical, 'udp.dns.downstream_sess_active': 6 })), 5 + 3 + 6);
  });

  it('is zero with nothing but idle keep-alive connections', () => {
    const count = countOf({
      'listener.a.downstream_cx_active': 9,
      'http.web.downstream_cx_active': 9,
      'http.web.downstream_rq_active': 0,
    });
    assert.equal(busyOf(count), 0);
    assert.equal(count.open, 9);
  });

  it('counts a connection that is still in listener filters', () => {
    const count = countOf({
      'listener.admin.downstream_cx_active': 1,
      'listener.a.downstream_pre_cx_active': 1,
      'http.web.downstream_rq_active': 0,
    });
    assert.equal(busyOf(count), 1);
  });

  it('is zero where everything open is ignored, though requests go on there', () => {
    const count = countOf(
      {
        'listener.web.downstream_cx_active': 5,
        'http.web.downstream_cx_active': 5,
        'http.web.downstream_rq_active': 5,
      },
      () => true,
    );
    assert.equal(busyOf(count), 0);
  });

  it('is every open connection where requests can’t be seen', () => {
    assert.equal(busyOf(countOf({ 'listener.a.downstream_cx_active': 9 })), 9);
  });
});

describe('readAccepted', () => {
  const accepted = statsOf({
    'listener.a.downstream_cx_total': 10,
    'listener.a.worker_0.downstream_cx_total': 10,
    'listener.b.downstream_cx_total': 5,
    'listener.admin.downstream_cx_total': 300,
    'listener.admin.main_thread.downstream_cx_total': 300,
    'udp.dns.downstream_sess_total': 2,
    'http.web.downstream_cx_total': 10,
  });

  it('adds up accepted connections and sessions, without parts and admin', () => {
    assert.equal(readAccepted(accepted), 17);
  });

  it('leaves out ignored listeners', () => {
    assert.equal(readAccepted(accepted, listenerMatcher(['b', 'udp.dns'])), 10);
  });

  it('never goes below 0', () => {
    assert.equal(readAccepted(statsOf({ 'listener.a.downstream_cx_total': -5 })), 0);
  });

  it('is 0 where nothing was ever accepted', () => {
    assert.equal(readAccepted([]), 0);
  });
});

describe('listenerMatcher', () => {
  const matches = (pattern: string, name: string) => listenerMatcher([pattern])(name);

  it('matches a whole name only', () => {
    assert.ok(matches('127.0.0.1_10000', '127.0.0.1_10000'));
    assert.ok(!matches('127.0.0.1_1000', '127.0.0.1_10000'));
    assert.ok(!matches('0.0.1_10000', '127.0.0.1_10000'));
    assert.ok(!matches('', 'a'));
  });

  it('takes * as any text, none included, and ? as one character', () => {
    assert.ok(matches('127.0.0.1_*', '127.0.0.1_10000'));
    assert.ok(matches('127.0.0.1_*', '127.0.0.1_'));
    assert.ok(matches('*_80', '[__]_80'));
    assert.ok(matches('edge-?', 'edge-1'));
    assert.ok(!matches('edge-?', 'edge-'));
    assert.ok(!matches('edge-?', 'edge-10'));
    assert.ok(matches('*', 'anything.at.all'));
  });

  it('takes the characters of regular expressions literally', () => {
    assert.ok(!matches('127.0.0.1_10000', '127a0b0c1_10000'));
    assert.ok(matches('[__1]_80', '[__1]_80'));
    assert.ok(!matches('[__1]_80', '__80'));
    for (const name of ['a+b', 'a|b', '(a)', 'a{2}', '^a$', 'a\\d', '$1']) {
      assert.ok(matches(name, name), name);
    }
    assert.ok(!matches('a+b', 'aab'));
    assert.ok(!matches('a|b', 'a'));
    assert.ok(!matches('a{2}', 'aa'));
    assert.ok(!matches('a\\d', 'a1'));
  });

  it('matches when any pattern does, and never without patterns', () => {
    const either = listenerMatcher(['a', 'b*']);
    assert.deepEqual(['a', 'bb', 'c'].map(either), [true, true, false]);
    assert.equal(listenerMatcher([])('a'), false);
  });
});

describe('readConnections of internal listeners', () => {
  it('leaves them out: their connections have no client of their own', () => {
    const stats = statsOf({
      'listener.admin.downstream_cx_active': 1,
      'listener.web.downstream_cx_active': 2,
      'listener.envoy_internal_inner.downstream_cx_active': 2,
      'listener.envoy_internal_inner.worker_0.downstream_cx_active': 2,
    });
    const reading = readConnections(stats);
    assert.ok(reading.kind === 'known');
    assert.deepEqual(reading.count.byListener, { web: 2 });
  });

  it('takes their HTTP off the sum that tells TCP connections', () => {
    const stats = statsOf({
      'listener.admin.downstream_cx_active': 1,
      'listener.tcp.downstream_cx_active': 5,
      'listener.web.downstream_cx_active': 5,
      'listener.envoy_internal_inner.downstream_cx_active': 5,
      'http.web.downstream_cx_active': 5,
      'http.inner.downstream_cx_active': 5,
    });
    const reading = readConnections(stats);
    assert.ok(reading.kind === 'known');
    assert.deepEqual([reading.count.open, reading.count.byKind.tcp], [10, 5]);
  });
});

describe('filters', () => {
  const wanted = {
    DETAIL_FILTER: [
      'listener.127.0.0.1_1.downstream_cx_active',
      'listener.admin.downstream_cx_active',
      'listener.a.downstream_cx_active',
      'listener.a.downstream_pre_cx_active',
      'udp.dns.downstream_sess_active',
      'http.web.downstream_cx_active',
      'http.web.downstream_cx_http1_active',
      'http.web.downstream_cx_http2_active',
      'http.web.downstream_cx_http3_active',
      'http.web.downstream_cx_upgrades_active',
      'http.web.downstream_rq_active',
    ],
    ACCEPTED_FILTER: ['listener.a.downstream_cx_total', 'udp.dns.downstream_sess_total'],
  };
  const sources = { DETAIL_FILTER, ACCEPTED_FILTER };

  for (const name of Object.keys(sources) as (keyof typeof sources)[]) {
    it(`${name} lets through what is counted and nothing of upstreams`, () => {
      const filter = new RegExp(sources[name]);
      for (const gauge of wanted[name]) assert.match(gauge, filter);
      for (const other of [
        'cluster.x.upstream_cx_active',
        'listener.a.downstream_cx_active.b',
        'x.listener.a.downstream_cx_total.y',
        'server.total_connections',
      ]) {
        assert.doesNotMatch(other, filter);
      }
    });
  }
});

describe('sumConnections', () => {
  it('is nothing for no Envoy', () => {
    assert.deepEqual(sumConnections([]), {
      byListener: {},
      byKind: { http1: 0, http2: 0, http3: 0, tcp: 0, websocket: 0, udp: 0 },
      open: 0,
      activeRequests: 0,
      negative: [],
    });
  });

  it('is the count itself for one', () => {
    const count = countOf(typical);
    assert.deepEqual(sumConnections([count]), count);
  });

  it('adds up two by listener and kind, also where a listener is only in one', () => {
    const older = countOf(typical);
    const newer = countOf({
      'listener.127.0.0.1_18001.downstream_cx_active': 5,
      'listener.new.downstream_cx_active': 3,
      'udp.quic.downstream_sess_active': 2,
      'http.web.downstream_cx_active': 5,
      'http.web.downstream_cx_http1_active': 5,
      'http.web.downstream_rq_active': 4,
    });
    const sum = sumConnections([older, newer]);
    assert.deepEqual(sum.byListener, {
      '127.0.0.1_18001': 13,
      '0.0.0.0_18002': 2,
      new: 3,
      'udp.quic': 2,
    });
    assert.equal(sum.open, older.open + newer.open);
    assert.equal(
      sum.open,
      Object.values(sum.byListener).reduce((total, open) => total + open, 0),
    );
    for (const kind of ['http1', 'http2', 'http3', 'tcp', 'websocket', 'udp'] as const) {
      assert.equal(sum.byKind[kind], older.byKind[kind] + newer.byKind[kind], kind);
    }
    assert.equal(sum.activeRequests, 9);
  });

  it('does not know the active requests where one Envoy does not show them', () => {
    const hidden = countOf({ 'listener.web.downstream_cx_active': 1 });
    assert.equal(hidden.activeRequests, undefined);
    for (const counts of [
      [hidden, countOf(typical)],
      [countOf(typical), hidden],
    ]) {
      assert.equal(sumConnections(counts).activeRequests, undefined);
    }
  });

  it('keeps the names of all gauges below zero', () => {
    const negative = { ...typical, 'listener.a.downstream_cx_active': -1 };
    const other = { ...typical, 'listener.b.downstream_cx_active': -1 };
    assert.deepEqual(sumConnections([countOf(negative), countOf(other)]).negative, [
      'listener.a.downstream_cx_active',
      'listener.b.downstream_cx_active',
    ]);
  });

  it('leaves the counts as they are', () => {
    const counts = [countOf(typical), countOf(typical)];
    const before = structuredClone(counts);
    sumConnections(counts);
    assert.deepEqual(counts, before);
  });
});
