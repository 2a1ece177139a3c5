import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { Answer, Question } from '../support/ask.js';
import { cluster, httpTo, listener } from '../support/bootstrap.js';
import { startTestEnvoy, type TestEnvoy } from '../support/envoy.js';
import { makeHosts, type TestHost, type TestHosts } from '../support/hosts.js';
import { startManager, type TestManager, withManager } from '../support/manager.js';

const CLI = resolve(import.meta.dirname, '../../bin/pm2-envoy.js');
const TOKEN = 'open sesame, 128 bits of it';
const MANAGER = 8090;
const FRONT = 10_000;

/** What another host may add to look like this one. */
const DISGUISES: readonly Readonly<Record<string, string>>[] = [
  {},
  { host: 'localhost:8090' },
  { host: '127.0.0.1:8090', 'x-real-ip': '127.0.0.1', 'client-ip': '127.0.0.1' },
  { host: '127.0.0.1:8090', 'x-forwarded-for': '127.0.0.1' },
  { host: '[::1]:8090', forwarded: 'for="[::1]"', via: '1.1 localhost' },
  { host: '127.0.0.1:8090', 'x-envoy-internal': 'true', 'x-envoy-external-address': '127.0.0.1' },
  { host: '127.0.0.1:8090', origin: 'http://127.0.0.1:8090', 'sec-fetch-site': 'same-origin' },
  { authorization: 'Bearer ' },
  { authorization: `Bearer ${TOKEN}x` },
  { authorization: `Basic ${TOKEN}` },
];

const ATTEMPTS = DISGUISES.flatMap((headers) =>
  ['GET', 'POST'].map((method) => ({ path: '/shutdown', method, headers })),
);

describe('another host', () => {
  let hosts: TestHosts;
  let envoy: TestEnvoy;
  let manager: TestManager;

  before(async () => {
    hosts = await makeHosts();
    const front = listener('front', FRONT, httpTo('manager'), '0.0.0.0');
    envoy = await startTestEnvoy({
      within: hosts.ours.within,
      bootstrap: {
        static_resources: { listeners: [front], clusters: [cluster('manager', MANAGER)] },
      },
    });
    manager = await startManager({
      folder: envoy.folder,
      port: MANAGER,
      within: hosts.ours.within,
      settings: {
        'admin-address': envoy.adminUrl,
        'serve-address': '::',
        'shutdown-token': TOKEN,
      },
    });
  });
  after(async () => {
    await manager?.stop();
    await envoy?.stop();
    await hosts?.stop();
  });

  /** Asks on each address of our host; the statuses of the answers. */
  const statusesFrom = (
    from: TestHost,
    questions: readonly Omit<Question, 'port'>[],
    addresses: readonly string[] = [hosts.ours.ipv4, hosts.ours.ipv6],
  ): number[] => {
    const all = addresses.flatMap((host) =>
      questions.map((question) => ({ ...question, host, port: MANAGER })),
    );
    return from.ask(all).map(({ status }) => status);
  };

  it('may ask for health and metrics, and nothing else', () => {
    const questions = ['/healthz', '/readyz', '/metrics', '/status', '/events'].map((path) => ({
      path,
    }));
    const each = [200, 200, 200, 403, 403];
    assert.deepEqual(statusesFrom(hosts.other, questions), [...each, ...each]);
  });

  it('can’t drain, whatever it adds, over IPv4 or IPv6', async () => {
    const statuses = statusesFrom(hosts.other, ATTEMPTS);
    assert.equal(statuses.length, 2 * ATTEMPTS.length);
    for (const status of statuses) assert.equal(status, 403);
    assert.equal(await envoy.admin.state(), 'LIVE');
  });

  it('can’t drain through our Envoy, with a route that leads to the manager', async () => {
    const questions = ATTEMPTS.map((attempt) => ({
      ...attempt,
      host: hosts.ours.ipv4,
      port: FRONT,
    }));
    for (const { status } of hosts.other.ask(questions)) assert.equal(status, 403);
    assert.equal(await envoy.admin.state(), 'LIVE');
  });

  it('can’t pass for loopback by its address', () => {
    hosts.other.run('ip', 'route', 'add', '127.1.0.0/16', 'via', hosts.ours.ipv4);
    const question = { path: '/status', host: '127.1.0.1', port: MANAGER, limitMs: 1_000 };
    const [answer] = hosts.other.ask([question]) as [Answer];
    assert.equal(answer.status, 0, 'it reached our loopback address');
  });

  it('is also our own host, by an address that others use', () => {
    const addresses = ['127.0.0.1', '127.5.5.5', '::1', '::ffff:127.0.0.1'];
    const questions = [{ path: '/status' }];
    assert.deepEqual(statusesFrom(hosts.ours, questions, addresses), [200, 200, 200, 200]);
    assert.deepEqual(statusesFrom(hosts.ours, questions), [403, 403]);
  });

  it('can’t connect at all where serve-address is left as it is', () =>
    withManager(
      {
        folder: envoy.folder,
        port: MANAGER + 1,
        within: hosts.ours.within,
        settings: { 'admin-address': envoy.adminUrl },
      },
      async () => {
        const asked = (host: string) => [{ host, port: MANAGER + 1, path: '/healthz' }];
        assert.equal(hosts.other.ask(asked(hosts.ours.ipv4))[0]?.error, 'ECONNREFUSED');
        assert.equal(hosts.ours.ask(asked('127.0.0.1'))[0]?.status, 200);
      },
    ));

  it('is our own command line, too, where serve-address is no loopback: it sends the token', () => {
    const file = join(envoy.folder, 'token');
    writeFileSync(file, TOKEN, { mode: 0o600 });
    const settings = {
      'admin-address': envoy.adminUrl,
      'serve-address': hosts.ours.ipv4,
      'shutdown-token-file': file,
    };
    const { within } = hosts.ours;
    return withManager(
      { folder: envoy.folder, port: MANAGER + 2, within, settings },
      async (manager) => {
        const config = `PM2_ENVOY_CONFIG=${manager.env['PM2_ENVOY_CONFIG']}`;
        const status = (...flags: string[]): string =>
          hosts.ours.run('env', config, process.execPath, CLI, 'status', ...flags);
        assert.match(status(), / LIVE, /);
        writeFileSync(file, 'another one');
        assert.match(status(), / LIVE, /);
        writeFileSync(`${file}-of-old`, TOKEN, { mode: 0o600 });
        assert.throws(
          () => status('--shutdown-token-file', `${file}-of-old`),
          ({ status, stderr }: { status: number; stderr: string }) =>
            status === 77 && stderr.includes('refused (403)'),
        );
      },
    );
  });

  it('may do everything with the token', async () => {
    const headers = { authorization: `Bearer ${TOKEN}` };
    assert.deepEqual(statusesFrom(hosts.other, [{ path: '/status', headers }]), [200, 200]);
    const question = { path: '/shutdown', method: 'POST', headers };
    assert.deepEqual(statusesFrom(hosts.other, [question]), [200, 200]);
    assert.equal(await envoy.admin.state(), 'DRAINING');
    assert.equal(manager.log().includes(TOKEN), false);
  });
});
