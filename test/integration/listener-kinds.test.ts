import assert from 'node:assert/strict';
import { Agent, get } from 'node:http';
import { connect } from 'node:net';
import { describe, it } from 'node:test';
import { planHandover } from '../../src/envoy/handover.js';
import { readBootstrap } from '../../src/envoy/read-bootstrap.js';
import { cluster, httpTo, listener, tcpTo } from '../support/bootstrap.js';
import { holdTcp } from '../support/clients.js';
import { drainOf } from '../support/drain.js';
import { type TestEnvoy, withEnvoy } from '../support/envoy.js';
import { freePorts } from '../support/ports.js';
import { oldestAndNewest, webListener, withGenerations } from '../support/two-generations.js';
import { eventually } from '../support/wait.js';

const INTERNAL =
  'type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener';

describe('Kinds of listeners', { concurrency: 2 }, () => {
  for (const { version, binary } of oldestAndNewest()) {
    describe(`A listener of Envoy ${version}`, { concurrency: 4 }, () => {
      it('with drain_type MODIFY_ONLY: busy clients are asked to leave in a drain of the host', () =>
        withListeners(
          (port) => [
            { ...asObject(listener('web', port, httpTo('http'))), drain_type: 'MODIFY_ONLY' },
          ],
          { binary, args: ['--drain-time-s', '60'] },
          async (envoy, port) => {
            const clients = [1, 2, 3].map(() => askUntilTold(port));
            await Promise.all(clients.map(({ hasBegun }) => hasBegun));
            const { outcome, connectionsLeft } = await drainOf(envoy).drain();
            assert.deepEqual([outcome, connectionsLeft], ['drained', 0]);
            await Promise.all(clients.map(({ left }) => left));
          },
        ));

      it('that is internal: its connections are not counted beside those that lead there', () =>
        withListeners(
          (port) => [
            asObject(listener('front', port, tcpTo('inside'))),
            {
              name: 'inside',
              internal_listener: {},
              filter_chains: [{ filters: [tcpTo('tcp')] }],
            },
          ],
          {
            binary,
            more: {
              bootstrap_extensions: [
                { name: 'envoy.bootstrap.internal_listener', typed_config: { '@type': INTERNAL } },
              ],
            },
          },
          async (envoy, port) => {
            const held = await holdTcp(port);
            const drain = drainOf(envoy);
            const result = drain.drain();
            await eventually('it to be counted', () => drain.current()?.connectionsLeft === 1);
            held.close();
            const { outcome, connectionsAtStart } = await result;
            assert.deepEqual([outcome, connectionsAtStart], ['drained', 1]);
          },
        ));

      it('that is OUTBOUND: with drain-listeners inbound it stays open until the others are empty', () =>
        withListeners(
          (port, egress) => [
            { ...asObject(listener('in', port, tcpTo('tcp'))), traffic_direction: 'INBOUND' },
            { ...asObject(listener('out', egress, tcpTo('tcp'))), traffic_direction: 'OUTBOUND' },
          ],
          { binary },
          async (envoy, port, egress) => {
            const held = await holdTcp(port);
            const drain = drainOf(envoy, { config: { drainListeners: 'inbound' } });
            const result = drain.drain();
            await eventually('ingress to close', async () => !(await isOpen(port)));
            const upstream = await holdTcp(egress);
            await held.echo('still here');
            held.close();
            await eventually('egress to close', async () => !(await isOpen(egress)));
            await upstream.echo('still here');
            assert.equal(drain.state().kind, 'draining');
            upstream.close();
            const { outcome, connectionsLeft } = await result;
            assert.deepEqual([outcome, connectionsLeft], ['drained', 0]);
          },
        ));

      it('with a port_value of 0: that its port changes is said before, and it is handed over', () =>
        withGenerations(binary, async (stage) => {
          stage.bootstrap([webListener('any', 0)]);
          const first = await stage.start();
          const { envoyConfig: bootstrap, envoyArgs: args } = stage.config;
          const { listeners } = await readBootstrap(binary, { bootstrap, args });
          const { notes, obstacles, removed } = await planHandover(first, listeners);
          assert.match(
            notes.join('\n'),
            /listener any has a port_value of 0: each generation listens on another port, and this one's \(127\.0\.0\.1:\d+\) closes/,
          );
          assert.deepEqual([obstacles, removed], [[], []]);
          assert.equal((await stage.start()).number, 2);
          assert.match(stage.log.of('warn').join('\n'), /listener any has a port_value of 0/);
        }));
    });
  }
});

async function withListeners(
  make: (port: number, other: number) => object[],
  how: { binary: string; args?: string[]; more?: object },
  use: (envoy: TestEnvoy, port: number, other: number) => Promise<void>,
): Promise<void> {
  const [port = 0, other = 0, backend = 0] = await freePorts(3);
  const { createServer } = await import('node:net');
  const { createServer: createHttp } = await import('node:http');
  const tcp = createServer((socket) => socket.on('error', () => socket.destroy()).pipe(socket));
  const http = createHttp((_request, response) => response.end('hello'));
  http.keepAliveTimeout = 0;
  await new Promise<void>((resolve) => tcp.listen(backend, '127.0.0.1', resolve));
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
  const address = http.address();
  const httpPort = typeof address === 'object' && address ? address.port : 0;
  const inside = {
    name: 'inside',
    type: 'STATIC',
    load_assignment: {
      cluster_name: 'inside',
      endpoints: [
        {
          lb_endpoints: [
            {
              endpoint: {
                address: { envoy_internal_address: { server_listener_name: 'inside' } },
              },
            },
          ],
        },
      ],
    },
  };
  const clusters = [cluster('http', httpPort), cluster('tcp', backend)];
  const listeners = make(port, other);
  const static_resources = { listeners, clusters: how.more ? [...clusters, inside] : clusters };
  const { binary, args = [], more } = how;
  try {
    await withEnvoy({ binary, args, bootstrap: { static_resources, ...more } }, (envoy) =>
      use(envoy, port, other),
    );
  } finally {
    tcp.close();
    http.close();
    http.closeAllConnections();
  }
}

function asObject(value: unknown): object {
  return value as object;
}

function isOpen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1' });
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}

/** A client with one busy connection, which leaves when an answer asks it to; `left` rejects when it is cut. */
function askUntilTold(port: number): { hasBegun: Promise<void>; left: Promise<void> } {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const ask = (): Promise<boolean> =>
    new Promise((resolve, reject) => {
      get({ port, host: '127.0.0.1', agent }, (response) => {
        response.resume();
        response.on('end', () => resolve(response.headers.connection === 'close'));
        response.on('error', reject);
      }).on('error', reject);
    });
  const hasBegun = ask().then(() => undefined);
  const left = hasBegun.then(async () => {
    while (!(await ask()));
    agent.destroy();
  });
  left.catch(() => undefined);
  return { hasBegun, left };
}
