import assert from 'node:assert/strict';
import { Agent, get } from 'node:http';
import { createServer } from 'node:net';
import { describe, it } from 'node:test';
import { createAdminClient } from '../../src/admin/client.js';
import {
  ACCEPTED_FILTER,
  DETAIL_FILTER,
  readAccepted,
  readConnections,
} from '../../src/admin/stats.js';
import { isPm2EnvoyError } from '../../src/errors.js';
import { holdIdle, holdTcp, holdWebSocket, request } from '../support/clients.js';
import { envoyBinary, withEnvoy } from '../support/envoy.js';
import { eventually } from '../support/wait.js';

for (const name of ['ENVOY_BIN', 'OLDER_ENVOY_BIN'] as const) {
  describe(`the admin client on a real Envoy (${name})`, () => {
    it('reads its state and information', () =>
      withEnvoy({ binary: envoyBinary(name) }, async ({ admin }) => {
        assert.equal(await admin.state(), 'LIVE');
        const info = await admin.serverInfo();
        assert.match(info.version, /^1\.\d+\.\d+$/);
        assert.equal(info.state, 'LIVE');
        assert.equal(info.concurrency, 2);
        assert.ok(info.uptimeSeconds < 60);
      }));

    it('counts connections by kind, and says zero before any was opened', () =>
      withEnvoy({ binary: envoyBinary(name) }, async ({ admin, ports }) => {
        const count = async () => {
          const { stats } = await admin.stats({ type: 'Gauges', filter: DETAIL_FILTER });
          const reading = readConnections(stats);
          assert.equal(reading.kind, 'known');
          return reading.kind === 'known' ? reading.count : undefined;
        };
        assert.equal((await count())?.open, 0);
        const held = [
          await holdIdle(ports.http),
          await holdWebSocket(ports.http),
          await holdTcp(ports.tcp),
        ];
        const busy = await eventually('the gauges', async () => {
          const now = await count();
          return now?.activeRequests === 1 && now;
        });
        assert.equal(busy.open, 3);
        assert.deepEqual(busy.byKind, {
          http1: 2,
          http2: 0,
          http3: 0,
          tcp: 1,
          websocket: 1,
          udp: 0,
        });
        for (const connection of held) connection.close();
        await eventually('the gauges to fall', async () => (await count())?.open === 0);
        const { stats } = await admin.stats({ type: 'Counters', filter: ACCEPTED_FILTER });
        assert.equal(readAccepted(stats), 3);
      }));

    it('takes a failed health check back', () =>
      withEnvoy({ binary: envoyBinary(name) }, async ({ admin }) => {
        await admin.failHealthCheck();
        await admin.passHealthCheck();
        await admin.passHealthCheck();
        assert.equal(await admin.state(), 'LIVE');
      }));

    it('asks a busy client to leave with its health untouched', () =>
      withEnvoy({ binary: envoyBinary(name) }, async ({ admin, ports }) => {
        const busy = new Agent({ keepAlive: true, maxSockets: 1 });
        const isLastOne = (): Promise<boolean> =>
          new Promise((resolve, reject) => {
            get({ host: '127.0.0.1', port: ports.http, agent: busy }, (reply) => {
              reply.resume().on('end', () => resolve(reply.headers.connection === 'close'));
            }).on('error', reject);
          });
        assert.equal(await isLastOne(), false);
        await admin.askClientsToLeave();
        await admin.closeListeners();
        assert.equal(await admin.state(), 'LIVE');
        await eventually('Connection: close', isLastOne, 60_000);
        busy.destroy();
      }));

    it('fails the health check and closes the listeners, twice as well', () =>
      withEnvoy({ binary: envoyBinary(name) }, async ({ admin, ports }) => {
        await admin.failHealthCheck();
        await admin.failHealthCheck();
        assert.equal(await admin.state(), 'DRAINING');
        assert.equal((await request(ports.http)).status, 200, 'new connections are still served');
        await admin.closeListeners();
        await admin.closeListeners();
        await eventually('the port to be closed', () =>
          request(ports.http).then(
            () => false,
            () => true,
          ),
        );
      }));
  });
}

describe('the admin client where Envoy is in trouble', () => {
  it('says admin-gone when nothing listens, admin-timeout when nobody answers', () =>
    withEnvoy({}, async (envoy) => {
      const impatient = createAdminClient({ kind: 'tcp', url: envoy.adminUrl }, 300);
      envoy.kill('SIGSTOP');
      await assert.rejects(impatient.state(), (error) => isPm2EnvoyError(error, 'admin-timeout'));
      envoy.kill('SIGKILL');
      await eventually('admin-gone', () =>
        impatient.state().then(
          () => false,
          (error: unknown) => isPm2EnvoyError(error, 'admin-gone'),
        ),
      );
    }));

  it('says admin-failed when the connection breaks', async () => {
    const server = createServer((socket) => socket.destroy());
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const address = server.address();
    const port = typeof address === 'object' ? address?.port : 0;
    const admin = createAdminClient({ kind: 'tcp', url: `http://127.0.0.1:${port}` });
    await assert.rejects(admin.state(), (error) => isPm2EnvoyError(error, 'admin-failed'));
    server.close();
  });
});
