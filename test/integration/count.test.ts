import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { systemClock } from '../../src/clock.js';
import { type Counted, createCounters } from '../../src/drain/count.js';
import { createWitness } from '../../src/drain/witness.js';
import { identify } from '../../src/host/process-identity.js';
import { createLooker } from '../../src/status/look.js';
import { cluster, httpTo, listener, tcpTo } from '../support/bootstrap.js';
import { drainOf } from '../support/drain.js';
import { type TestEnvoy, withEnvoy } from '../support/envoy.js';
import { makeFolder } from '../support/folder.js';
import { eventually, letPass } from '../support/wait.js';

const INTERNAL = 'type.googleapis.com/envoy.extensions';
const HIDE_ALL = { stats_config: { stats_matcher: { reject_all: true } } };
const HIDE_LISTENERS = {
  stats_config: { stats_matcher: { exclusion_list: { patterns: [{ prefix: 'listener.' }] } } },
};
const INTERNAL_LISTENERS = {
  bootstrap_extensions: [
    {
      name: 'envoy.bootstrap.internal_listener',
      typed_config: { '@type': `${INTERNAL}.bootstrap.internal_listener.v3.InternalListener` },
    },
  ],
};

describe('what a real Envoy has open', { concurrency: 2 }, () => {
  const folder = makeFolder();
  const path = join(folder.path, 'web.sock');
  let backend: Server;
  let port = 0;
  before(async () => {
    backend = createServer((socket) => {
      socket.on('error', () => undefined);
      socket.on('data', (data) => {
        const isHttp = data.toString('latin1').startsWith('GET');
        if (isHttp) socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
      });
    });
    backend.listen(0, '127.0.0.1');
    await once(backend, 'listening');
    port = (backend.address() as { port: number }).port;
  });
  after(() => {
    backend.close();
    folder.remove();
  });
  const resources = (listeners: unknown[], ...more: unknown[]) => ({
    static_resources: { listeners, clusters: [cluster('tcp', port), ...more] },
  });

  it('is seen on additional addresses and unix sockets where all gauges are hidden', () =>
    withEnvoy(
      {
        bootstrap: {
          ...HIDE_ALL,
          ...resources([
            {
              ...(listener('two', 0, tcpTo('tcp')) as object),
              additional_addresses: [{ address: { socket_address: ANY_PORT } }],
            },
            { ...(listener('unix', 0, tcpTo('tcp')) as object), address: { pipe: { path } } },
          ]),
        },
      },
      async (envoy) => {
        const [, second = 0] = await portsOf(envoy);
        const held = [await open({ port: second, host: '127.0.0.1' }), await open({ path })];
        const counter = counterOf(envoy);
        await eventually('both to be counted', async () => openOf(await counter.count()) === 2);
        const target = { name: 'Envoy', admin: envoy.admin, process: identify(envoy.pid) };
        const looker = createLooker(target, {
          counter,
          witness: createWitness(),
          clock: systemClock,
        });
        const { peers, count } = await eventually('its peers', async () => {
          const { peers, count } = await looker.look();
          return peers.kind === 'known' && { peers, count };
        });
        assert.equal(peers.oldest.length, 1);
        assert.equal(count?.open, 2);
        const result = drainOf(envoy).drain();
        for (const [index, socket] of held.entries()) {
          assert.equal(await soon(result), 'waits', `for connection ${index}`);
          socket.destroy();
        }
        const { outcome, connectionsAtStart, connectionsLeft } = await result;
        assert.deepEqual([outcome, connectionsAtStart, connectionsLeft], ['drained', 2, 0]);
      },
    ));

  it('has its TCP proxies in it where listener gauges alone are hidden; of a foreign one it is unknown', () =>
    withEnvoy(
      {
        bootstrap: {
          ...HIDE_LISTENERS,
          ...resources([listener('tcp', 0, tcpTo('tcp')), listener('web', 0, httpTo('tcp'))]),
        },
      },
      async (envoy) => {
        const [first = 0] = await portsOf(envoy);
        const socket = await open({ port: first, host: '127.0.0.1' });
        const counted = await eventually('it to be counted', async () => {
          const found = await counterOf(envoy).count();
          return openOf(found) === 1 && found;
        });
        assert.match(counted.kind === 'known' ? (counted.note ?? '') : '', /counting its sockets/);
        const foreign = await counterOf(envoy, false).count();
        assert.match(
          foreign.kind === 'unknown' ? foreign.reason : '',
          /TCP proxies have no other gauge/,
        );
        const result = drainOf(envoy).drain();
        assert.equal(await soon(result), 'waits');
        socket.destroy();
        assert.equal((await result).outcome, 'drained');
      },
    ));

  it('is unknown, in words of its own, where UDP can not be seen', () =>
    withEnvoy(
      { bootstrap: { ...HIDE_ALL, ...resources([UDP_PROXY, listener('tcp', 0, tcpTo('tcp'))]) } },
      async (envoy) => {
        const found = await counterOf(envoy).count();
        assert.match(
          found.kind === 'unknown' ? found.reason : '',
          /HTTP\/3 and UDP \(127\.0\.0\.1:\d+\) have no sockets that could be counted instead: allow listener/,
        );
      },
    ));

  it('has none of what internal listeners have open, and their pools hold no drain', () =>
    withEnvoy(
      {
        bootstrap: {
          ...INTERNAL_LISTENERS,
          ...resources(
            [
              listener('web', 0, httpTo('inner')),
              {
                name: 'inner',
                internal_listener: {},
                filter_chains: [{ filters: [httpTo('tcp', { hcm: { stat_prefix: 'inner' } })] }],
              },
            ],
            INNER_CLUSTER,
          ),
        },
      },
      async (envoy) => {
        const [web = 0] = await portsOf(envoy);
        const socket = await open({ port: web, host: '127.0.0.1' });
        socket.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
        await once(socket, 'data');
        assert.equal(openOf(await counterOf(envoy).count()), 1);
        const { stats } = await envoy.admin.stats({
          type: 'Gauges',
          filter: 'internal_inner.downstream_cx_active$',
        });
        assert.ok(
          stats.some(({ value }) => value === 1),
          'its pool has a connection',
        );
        socket.destroy();
        assert.equal((await drainOf(envoy).drain()).outcome, 'drained');
      },
    ));

  it('is counted once for all who look at the same time, and spends one budget', () =>
    withEnvoy({}, async (envoy) => {
      const counters = createCounters({ ignoreListeners: [] });
      const target = { name: 'Envoy', admin: envoy.admin, process: identify(envoy.pid) };
      counters.of(target).budget.spend(1_000);
      const first = await counters.of(target).count();
      for (let look = 0; look < 20; look += 1) {
        const seen = await counters.of({ ...target }).glance({ oldestMs: 60_000 });
        assert.equal(seen, first, 'a drain has spent the budget: who only looks asks no more');
      }
      assert.notEqual(await counters.of(target).glance({ oldestMs: 0 }), first);
    }));
});

const ANY_PORT = { address: '127.0.0.1', port_value: 0 };
const UDP_PROXY = {
  name: 'udp',
  address: { socket_address: { protocol: 'UDP', ...ANY_PORT } },
  listener_filters: [
    {
      name: 'envoy.filters.udp_listener.udp_proxy',
      typed_config: {
        '@type': `${INTERNAL}.filters.udp.udp_proxy.v3.UdpProxyConfig`,
        stat_prefix: 'dns',
        matcher: {
          on_no_match: {
            action: {
              name: 'route',
              typed_config: {
                '@type': `${INTERNAL}.filters.udp.udp_proxy.v3.Route`,
                cluster: 'tcp',
              },
            },
          },
        },
      },
    },
  ],
};
const INNER_CLUSTER = {
  name: 'inner',
  load_assignment: {
    cluster_name: 'inner',
    endpoints: [
      {
        lb_endpoints: [
          {
            endpoint: { address: { envoy_internal_address: { server_listener_name: 'inner' } } },
          },
        ],
      },
    ],
  },
  transport_socket: {
    name: 'envoy.transport_sockets.internal_upstream',
    typed_config: {
      '@type': `${INTERNAL}.transport_sockets.internal_upstream.v3.InternalUpstreamTransport`,
      transport_socket: {
        name: 'envoy.transport_sockets.raw_buffer',
        typed_config: { '@type': `${INTERNAL}.transport_sockets.raw_buffer.v3.RawBuffer` },
      },
    },
  },
};

function counterOf({ admin, pid }: TestEnvoy, isOurs = true) {
  const process = isOurs ? identify(pid) : undefined;
  return createCounters({ ignoreListeners: [] }).of({ name: 'Envoy', admin, process });
}

function openOf(counted: Counted): number | undefined {
  return counted.kind === 'known' ? counted.count.open : undefined;
}

/** Of every IP address, in the order of the listeners. */
async function portsOf({ admin }: TestEnvoy): Promise<number[]> {
  const listeners = await admin.listeners();
  return listeners
    .flatMap(({ addresses }) => addresses)
    .filter(({ kind }) => kind === 'ip')
    .map(({ text }) => Number(text.split(':').at(-1)));
}

async function open(to: { port: number; host: string } | { path: string }): Promise<Socket> {
  const socket = connect(to);
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  return socket;
}

async function soon(result: Promise<unknown>): Promise<string> {
  return Promise.race([result.then(() => 'ended'), letPass(700).then(() => 'waits')]);
}
