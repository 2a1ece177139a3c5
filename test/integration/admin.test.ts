import assert from 'node:assert/strict';
import { Agent, createServer as createHttpServer, get } from 'node:http';
import { type AddressInfo, createServer } from 'node:net';
import { describe, it } from 'node:test';
import { type AdminCall, createAdminClient } from '../../src/admin/client.js';
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
          http1: 1,
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
  it('says admin-gone when nothing listens, admin-timeout when no one answers', () =>
    withEnvoy({}, async (envoy) => {
      const impatient = createAdminClient({ kind: 'tcp', url: envoy.adminUrl }, 300);
      envoy.kill('SIGSTOP');
      await assert.rejects(impatient.state(), (error) => isPm2EnvoyError(error, 'admin-timeout'));
      // Nor to a caller that has less time than a call may take.
      await assert.rejects(impatient.state(AbortSignal.timeout(20)), (error) =>
        isPm2EnvoyError(error, 'admin-timeout'),
      );
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

describe('what the admin client tells of its calls', () => {
  it('is the path of each, how long it took, and no error', () =>
    withEnvoy({}, async ({ adminUrl }) => {
      const calls: AdminCall[] = [];
      const onCall = (call: AdminCall): void => void calls.push(call);
      const admin = createAdminClient({ kind: 'tcp', url: adminUrl }, undefined, onCall);
      await admin.state();
      await admin.serverInfo();
      await admin.stats({ type: 'Gauges', filter: DETAIL_FILTER });
      await admin.listenerPorts();
      await admin.hasListeners();
      await admin.failHealthCheck();
      await admin.state();
      await admin.passHealthCheck();
      await admin.askClientsToLeave();
      await admin.closeListeners();
      assert.deepEqual(
        calls.map(({ path }) => path),
        [
          ...['/ready', '/server_info', '/stats', '/listeners', '/listeners'],
          ...['/healthcheck/fail', '/ready', '/healthcheck/ok'],
          ...['/drain_listeners', '/drain_listeners'],
        ],
      );
      for (const { tookMs, error } of calls) {
        assert.ok(tookMs > 0 && tookMs < 5_000);
        assert.equal(error, undefined);
      }
      admin.close();
    }));

  it('does not take the time in which this process is busy itself for Envoy’s', () =>
    withEnvoy({}, async ({ adminUrl }) => {
      const admin = createAdminClient({ kind: 'tcp', url: adminUrl });
      const busyMs = 1_000;
      const ask = async (): Promise<number> =>
        (await admin.stats({ type: 'Gauges', filter: DETAIL_FILTER })).tookMs;
      const askWhileBusy = async (): Promise<number> => {
        const asked = ask();
        setImmediate(() => {
          const untilMs = performance.now() + busyMs;
          while (performance.now() < untilMs);
        });
        return asked;
      };
      assert.ok((await askWhileBusy()) < busyMs);
      const quietMs = await ask();
      assert.ok((await askWhileBusy()) <= quietMs);
      admin.close();
    }));

  it('is the error code of one that fails, an answer that no Envoy gives included', async () => {
    let status = 500;
    const server = createHttpServer((_request, response) => {
      response.statusCode = status;
      response.end('{"stats":7}');
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const errors: (string | undefined)[] = [];
    const onCall = ({ error }: AdminCall): void => void errors.push(error);
    const admin = createAdminClient({ kind: 'tcp', url }, undefined, onCall);
    const ask = (): Promise<unknown> => admin.stats({ type: 'Gauges', filter: 'x' });
    for (status of [500, 403, 404, 200]) await assert.rejects(ask());
    admin.close();
    await new Promise((resolve) => server.close(resolve));
    await assert.rejects(ask());
    assert.deepEqual(errors, [
      ...['admin-failed', 'admin-refused', 'admin-payload', 'admin-payload', 'admin-gone'],
    ]);
  });
});
