import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Contents } from '../../src/admin/contents.js';
import {
  bootstrapListeners,
  type DumpedListener,
  parseListenerDump,
  parseRunningListeners,
} from '../../src/admin/listeners.js';
import { readSubscriptions } from '../../src/admin/subscriptions.js';
import { createFaultFinder } from '../../src/envoy/fault.js';
import { compareListeners } from '../../src/envoy/handover.js';
import { describeGap, gapsOf, type Serving } from '../../src/envoy/proof.js';

/** A listener by its name and addresses: `web 127.0.0.1:80`. */
function running(...texts: string[]): Serving['listeners'] {
  return texts.map((text) => {
    const [name = '', ...addresses] = text.split(' ');
    return { name, addresses: addresses.map((one) => ({ kind: 'ip' as const, text: one })) };
  });
}

function configured(name: string, part: Partial<DumpedListener> = {}): DumpedListener {
  return {
    name,
    isDynamic: false,
    addresses: [],
    takesAnyPort: false,
    reusesPort: true,
    isInbound: false,
    isUdp: false,
    statName: name,
    wants: { routes: [], secrets: [], filters: [] },
    ...part,
  };
}

function contents(part: Partial<Contents> = {}): Contents {
  return { routes: [], secrets: [], filters: [], endpoints: new Map(), ...part };
}

function serving(part: Partial<Serving> & { counters?: Record<string, number> } = {}): Serving {
  const { counters = {}, ...rest } = part;
  const stats = Object.entries(counters).map(([name, value]) => ({ name, value }));
  return {
    listeners: [],
    configs: [],
    subscriptions: readSubscriptions(stats),
    contents: contents(),
    bound: undefined,
    ...rest,
  };
}

function said(now: Serving, before?: Serving): string[] {
  return gapsOf(now, before).map((gap) => `${gap.kind} ${describeGap(gap)}`);
}

describe('gapsOf', () => {
  it('finds none where everything is there, by whatever wildcard', () => {
    const before = serving({ listeners: running('a 127.0.0.1:80', 'b [::1]:81 10.0.0.1:82') });
    const now = serving({ listeners: running('a 0.0.0.0:80', 'b [::1]:81 10.0.0.1:82') });
    assert.deepEqual(said(now, before), []);
  });

  it('takes the bootstrap’s word for a listener of its own, but not that there is none left', () => {
    const before = serving({ listeners: running('a 127.0.0.1:80'), configs: [configured('a')] });
    const why = '127.0.0.1:80 (listener a): the new bootstrap does not have it any more';
    assert.deepEqual(said(serving({ listeners: running('b 127.0.0.1:81') }), before), [
      `explained ${why}`,
    ]);
    assert.deepEqual(said(serving(), before), [`removed ${why}`]);
  });

  it('names why a listener of LDS is not there', () => {
    const configs = [configured('a', { isDynamic: true })];
    const before = serving({ listeners: running('a 127.0.0.1:80'), configs });
    const lds = (
      counters: Record<string, number>,
      part: Partial<Serving> = {},
    ): string | undefined => said(serving({ counters, ...part }), before)[0];
    assert.match(
      lds({ 'listener_manager.lds.update_success': 1 }) ?? '',
      /^removed .*LDS no longer has it/,
    );
    assert.match(
      lds({ 'listener_manager.lds.init_fetch_timeout': 1 }) ?? '',
      /^fault .*LDS: nothing came within initial_fetch_timeout/,
    );
    assert.match(
      lds(
        { 'listener_manager.lds.update_rejected': 1 },
        { configs: [configured('a', { isDynamic: true, error: 'cannot bind' })] },
      ) ?? '',
      /^fault 127\.0\.0\.1:80 \(listener a\): cannot bind$/,
    );
  });

  it('tells TCP and UDP on one address apart, and a listener that is not bound', () => {
    const address = '0.0.0.0:443';
    const bound = new Set([`tcp ${address}`, `udp ${address}`]);
    const both = running(`tcp ${address}`, `quic ${address}`);
    const before = serving({ listeners: both, bound });
    const tcpOnly = new Set([`tcp ${address}`]);
    assert.deepEqual(
      said(serving({ listeners: running(`tcp ${address}`), bound: tcpOnly }), before),
      ['explained 0.0.0.0:443 (listener quic): the new bootstrap does not have it any more'],
    );
    const unbound = said(serving({ listeners: both, bound: tcpOnly }), before);
    assert.match(unbound[0] ?? '', /^removed .*nothing listens there by UDP/);
    assert.deepEqual(said(serving({ listeners: both, bound }), before), []);
  });

  it('lets a listener with a port of 0 change its port', () => {
    const configs = [configured('a', { isDynamic: true, takesAnyPort: true })];
    const before = serving({ listeners: running('a 127.0.0.1:34567'), configs });
    assert.deepEqual(said(serving({ listeners: running('a 127.0.0.1:45678') }), before), []);
  });

  it('compares what was received from each source', () => {
    const received = {
      'cluster_manager.cds.update_success': 3,
      'http.web.rds.r1.update_success': 1,
    };
    const failed = {
      'cluster_manager.cds.update_failure': 1,
      'cluster_manager.cds.update_success': 0,
      'http.web.rds.r1.update_success': 0,
      'sds.cert.update_rejected': 1,
      'cluster.new.init_fetch_timeout': 1,
    };
    assert.deepEqual(said(serving({ counters: failed }), serving({ counters: received })), [
      'fault clusters (CDS): its source can’t be reached or read',
      'fault routes r1 (RDS): nothing was received',
      'fault secret cert (SDS): what came was rejected',
      'explained endpoints of cluster new: nothing came within initial_fetch_timeout',
    ]);
    assert.deepEqual(said(serving({ counters: failed }), serving({ counters: failed })), []);
    assert.deepEqual(said(serving({ counters: received }), serving({ counters: received })), []);
  });
});

describe('compareListeners', () => {
  const web = { kind: 'ip', text: '127.0.0.1:80' } as const;

  it('finds listeners that no second Envoy can open, unless they go', () => {
    const facts = { number: 1, running: running('web 127.0.0.1:80') };
    const closed = configured('web', { addresses: [web], reusesPort: false });
    const open = configured('web', { addresses: [web] });
    const found = (old: DumpedListener, wanted: DumpedListener[] | undefined): number =>
      compareListeners({ ...facts, configs: [old], wanted }).obstacles.length;
    assert.deepEqual(
      [found(closed, [open]), found(open, [closed]), found(open, [open]), found(closed, [])],
      [1, 1, 0, 0],
    );
    assert.equal(found({ ...closed, isDynamic: true }, []), 1, 'LDS will name it again');
    assert.equal(found(closed, undefined), 1, 'the bootstrap can’t be read');
  });

  it('names unix sockets, abstract ones, ports of 0 and what goes', () => {
    const plan = compareListeners({
      number: 1,
      running: [
        { name: 'file', addresses: [{ kind: 'unix', text: '/run/a.sock' }] },
        { name: 'abstract', addresses: [{ kind: 'abstract', text: '@a' }] },
        { name: 'any', addresses: [{ kind: 'ip', text: '127.0.0.1:34567' }] },
        { name: 'gone', addresses: [web] },
      ],
      configs: [configured('any', { takesAnyPort: true })],
      wanted: [
        configured('f', { addresses: [{ kind: 'unix', text: '/run/a.sock' }] }),
        configured('a', { addresses: [{ kind: 'abstract', text: '@a' }] }),
        configured('any', { takesAnyPort: true }),
      ],
    });
    assert.deepEqual(plan.socketPaths, ['/run/a.sock']);
    assert.match(plan.obstacles.join(), /^listener abstract listens on the abstract socket @a/);
    assert.match(plan.notes.join(), /^listener any has a port_value of 0.*127\.0\.0\.1:34567/);
    assert.deepEqual(plan.removed, ['127.0.0.1:80 (listener gone)']);
  });
});

describe('compareListeners of UDP from a control plane', () => {
  const socket_address = { protocol: 'UDP', address: '127.0.0.1', port_value: 443 };
  const quic = { name: 'quic', address: { socket_address } };
  const notesOf = (dump: object): string[] => {
    const configs = parseListenerDump({ configs: [dump] });
    const facts = { number: 1, running: running('quic 127.0.0.1:443'), configs };
    return [...compareListeners({ ...facts, wanted: bootstrapOf(quic) }).notes];
  };

  it('says that it is not steered, and what to do', () => {
    const [note, ...more] = notesOf({ name: 'quic', active_state: { listener: quic } });
    assert.match(
      note ?? '',
      /^listener quic \(127\.0\.0\.1:443\) comes from LDS.*Put it into the bootstrap$/,
    );
    assert.deepEqual(more, []);
  });

  it('says nothing of one from the bootstrap', () => {
    assert.deepEqual(notesOf({ listener: quic }), []);
  });
});

/** The listeners of a bootstrap with this one. */
function bootstrapOf(listener: object) {
  return bootstrapListeners({ static_resources: { listeners: [listener] } });
}

describe('listeners', () => {
  it('are read from /listeners, with every address', () => {
    const socket = (address: string, port_value?: number) => ({
      socket_address: { address, port_value },
    });
    const parsed = parseRunningListeners({
      listener_statuses: [
        {
          name: 'web',
          local_address: socket('::', 80),
          additional_local_addresses: [socket('127.0.0.1', 81)],
        },
        { name: 'u', local_address: { pipe: { path: '@x' } } },
        { name: 'i', local_address: { envoy_internal_address: { server_listener_name: 'i' } } },
      ],
    });
    assert.deepEqual(
      parsed.map(({ addresses }) => addresses.map(({ kind, text }) => `${kind} ${text}`)),
      [['ip [::]:80', 'ip 127.0.0.1:81'], ['abstract @x'], ['internal i']],
    );
    assert.deepEqual(parseRunningListeners({}), []);
    assert.throws(() => parseRunningListeners({ listener_statuses: 1 }), TypeError);
  });

  it('are read from a bootstrap in either spelling, and from a config dump', () => {
    const [one, two, three] = bootstrapListeners({
      staticResources: {
        listeners: [
          {
            name: 'a',
            address: { socketAddress: { address: '0.0.0.0', portValue: 80 } },
            enableReusePort: false,
            trafficDirection: 'INBOUND',
          },
          { name: 'b', stat_prefix: 'bb', address: { socket_address: { address: '::1' } } },
          { name: 'c', internal_listener: {} },
        ],
      },
    });
    assert.deepEqual(
      [one?.reusesPort, one?.isInbound, one?.statName, one?.addresses[0]?.text],
      [false, true, '0.0.0.0_80', '0.0.0.0:80'],
    );
    assert.deepEqual([two?.takesAnyPort, two?.statName], [true, 'bb']);
    assert.deepEqual(three?.addresses, [{ kind: 'internal', text: 'c' }]);
    for (const nothing of [undefined, null, 'text', 7, [], {}, { static_resources: 1 }]) {
      assert.deepEqual(bootstrapListeners(nothing), []);
    }
    const [fixed, dynamic, refused] = parseListenerDump({
      configs: [
        { listener: { name: 'a' } },
        { name: 'b', active_state: { listener: { name: 'b', enable_reuse_port: false } } },
        { name: 'c', error_state: { details: 'no filter chains' } },
      ],
    });
    assert.deepEqual(
      [fixed?.isDynamic, dynamic?.isDynamic, dynamic?.reusesPort],
      [false, true, false],
    );
    assert.deepEqual([refused?.name, refused?.error], ['c', 'no filter chains']);
  });
});

describe('the complaint of createFaultFinder', () => {
  it('prefers the last error to the last warning, over parts of lines', () => {
    const finder = createFaultFinder();
    assert.equal(finder.complaint(), undefined);
    const line = (level: string, topic: string, text: string): string =>
      `[2026-11-29 01:53:06.122][1][${level}][${topic}] [source/x.cc:81] ${text}\n`;
    finder.see(`hello\n${line('warning', 'main', 'no limit')}`);
    assert.equal(finder.complaint(), undefined);
    const warning = line('warning', 'config', 'update rejected');
    finder.see(warning.slice(0, 40));
    finder.see(warning.slice(40));
    assert.equal(finder.complaint(), 'update rejected');
    finder.see(line('critical', 'main', 'cannot bind'));
    finder.see(warning);
    assert.equal(finder.complaint(), 'cannot bind');
  });
});

describe('gapsOf, by what is there', () => {
  const wants = { routes: ['r'], secrets: ['s'], filters: ['f'] };
  const configs = [configured('web', { wants })];
  const all = { routes: ['r'], secrets: ['s'], filters: ['f'] };

  it('names what the listeners refer to and is not there, whatever the counters say', () => {
    const counters = { 'http.web.rds.r.update_success': 1 };
    const now = serving({ configs, counters });
    const before = serving({ configs, contents: contents(all) });
    assert.deepEqual(said(now, before), [
      'fault routes r (RDS): its source has not sent it',
      'fault secret s (SDS): its source has not sent it',
      'fault filter f (ECDS): its source has not sent it',
    ]);
  });

  it('says once what the counters say too', () => {
    const counters = { 'http.web.rds.r.update_rejected': 1 };
    const now = serving({ configs, counters, contents: contents({ ...all, routes: [] }) });
    const before = serving({ configs, contents: contents(all) });
    assert.deepEqual(said(now, before), ['fault routes r (RDS): what came was rejected']);
  });

  it('names nothing that the one in service lacks as well, or that no listener refers to any more', () => {
    assert.deepEqual(said(serving({ configs }), serving({ configs })), []);
    const before = serving({ configs, contents: contents(all) });
    assert.deepEqual(said(serving({ configs: [configured('web')] }), before), []);
  });

  it('names clusters that have lost all endpoints, and not those that are gone or never had one', () => {
    const endpoints = new Map([
      ['app', true],
      ['idle', false],
      ['gone', true],
    ]);
    const now = new Map([
      ['app', false],
      ['idle', false],
    ]);
    assert.deepEqual(
      said(
        serving({ contents: contents({ endpoints: now }) }),
        serving({ contents: contents({ endpoints }) }),
      ),
      ['fault endpoints of cluster app: it has none, and the one in service has some'],
    );
  });
});
