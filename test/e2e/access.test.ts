import assert from 'node:assert/strict';
import { chmodSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { ask, type Question } from '../support/ask.js';
import { cluster, httpTo, listener } from '../support/bootstrap.js';
import { envoyBinary, withEnvoy } from '../support/envoy.js';
import { withManager } from '../support/manager.js';
import { freePorts } from '../support/ports.js';

const TOKEN = 'open sesame, 128 bits of it';

/** How an Envoy may be set up to forward to the manager; each leaves a sign of its own, or few. */
const FRONTS = {
  'as it comes': {},
  'as an edge proxy': { hcm: { use_remote_address: true } },
  'with another scheme and a name for Via': {
    hcm: { via: 'edge', scheme_header_transformation: { scheme_to_overwrite: 'https' } },
  },
  'with as few headers as it can': {
    hcm: { generate_request_id: false },
    router: { suppress_envoy_headers: true },
  },
  'with the Host rewritten to the manager’s': {
    route: { route: { cluster: 'manager', host_rewrite_literal: '127.0.0.1' } },
  },
};

/** What an outsider may add to look like this host. */
const DISGUISES: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  'nothing special': {},
  'a Host of this host': { host: 'localhost' },
  'X-Forwarded-For of this host': { host: '127.0.0.1', 'x-forwarded-for': '127.0.0.1' },
  'Forwarded and X-Real-IP of this host': {
    host: '[::1]',
    forwarded: 'for=127.0.0.1;host=localhost',
    'x-real-ip': '127.0.0.1',
  },
  'an order to drop the signs on the way': {
    connection: 'close, x-forwarded-proto, x-request-id, x-envoy-expected-rq-timeout-ms',
  },
  'signs of a browser on our own page': {
    host: '127.0.0.1:8090',
    origin: 'http://127.0.0.1:8090',
    'sec-fetch-site': 'same-origin',
  },
};

const REQUESTS = [
  ['GET', '/shutdown'],
  ['POST', '/shutdown'],
  ['GET', '/status'],
] as const;

describe('the trust rule for requests through Envoy itself', () => {
  for (const name of ['ENVOY_BIN', 'OLDER_ENVOY_BIN'] as const) {
    it(`refuses whatever an outsider adds, however Envoy forwards (${name})`, async () => {
      const [serve = 0, ...ports] = await freePorts(1 + Object.keys(FRONTS).length);
      const listeners = Object.entries(FRONTS).map(([front, options], index) =>
        listener(front, ports[index] ?? 0, httpTo('manager', options)),
      );
      const bootstrap = { static_resources: { listeners, clusters: [cluster('manager', serve)] } };
      await withEnvoy({ binary: envoyBinary(name), bootstrap }, async (envoy) => {
        const settings = { 'admin-address': envoy.adminUrl, 'shutdown-token': TOKEN };
        await withManager({ folder: envoy.folder, port: serve, settings }, async () => {
          const through = async (question: Omit<Question, 'port'>): Promise<number[]> =>
            Promise.all(ports.map(async (port) => (await ask({ ...question, port })).status));
          const all = (status: number): number[] => ports.map(() => status);
          for (const [disguise, headers] of Object.entries(DISGUISES)) {
            // Envoy itself refuses to drop its own headers.
            const refused = all(headers['connection'] ? 400 : 403);
            for (const [method, path] of REQUESTS) {
              assert.deepEqual(await through({ method, path, headers }), refused, disguise);
            }
          }
          assert.deepEqual(await through({ path: '/healthz' }), all(200));
          const headers = { authorization: `Bearer ${TOKEN}` };
          assert.deepEqual(await through({ path: '/status', headers }), all(200));
          assert.equal(await envoy.admin.state(), 'LIVE');
        });
      });
    });
  }
});

describe('the shutdown token', () => {
  it('is taken whole and right, and in no other way', () =>
    withEnvoy({}, async ({ folder, adminUrl, admin }) => {
      const [port = 0] = await freePorts(1);
      const settings = { 'admin-address': adminUrl, 'shutdown-token': TOKEN };
      await withManager({ folder, port, settings }, async (manager) => {
        const statusWith = async (authorization?: string): Promise<number> => {
          const headers = {
            'x-forwarded-for': '10.0.0.1',
            ...(authorization && { authorization }),
          };
          return (await ask({ port, method: 'POST', path: '/shutdown', headers })).status;
        };
        for (const wrong of [
          undefined,
          'Bearer',
          `Bearer ${TOKEN}x`,
          `Bearer ${TOKEN.slice(1)}`,
          `Basic ${Buffer.from(`x:${TOKEN}`).toString('base64')}`,
          `Bearer ${TOKEN}, Bearer ${TOKEN}`,
          `Bearer ${'x'.repeat(8_000)}`,
          `Bearer ${TOKEN}${' x'.repeat(4_000)}`,
          `Bearer ${'ÿ'.repeat(100)}`,
          'Bearer \t',
        ]) {
          assert.equal(await statusWith(wrong), 403, wrong?.slice(0, 50));
        }
        assert.equal(await statusWith(`Bearer ${'x'.repeat(20_000)}`), 431);
        assert.equal(await admin.state(), 'LIVE');
        assert.equal(await statusWith(`Bearer ${TOKEN}`), 200);
        assert.equal(await admin.state(), 'DRAINING');
        assert.equal(manager.log().includes(TOKEN), false);
      });
    }));

  it('is read again from its file, which must stay closed to others', () =>
    withEnvoy({}, async ({ folder, adminUrl }) => {
      const [port = 0] = await freePorts(1);
      const file = join(folder, 'token');
      writeFileSync(file, 'the old one', { mode: 0o600 });
      const settings = { 'admin-address': adminUrl, 'shutdown-token-file': file };
      await withManager({ folder, port, settings }, async (manager) => {
        const statusWith = async (token: string): Promise<number> => {
          const headers = { 'x-forwarded-for': '10.0.0.1', authorization: `Bearer ${token}` };
          return (await ask({ port, path: '/status', headers })).status;
        };
        assert.deepEqual(
          [await statusWith('the old one'), await statusWith('the new')],
          [200, 403],
        );
        writeFileSync(`${file}.draft`, 'the new', { mode: 0o600 });
        renameSync(`${file}.draft`, file);
        assert.deepEqual(
          [await statusWith('the old one'), await statusWith('the new')],
          [403, 200],
        );
        chmodSync(file, 0o644);
        assert.equal(await statusWith('the new'), 403);
        assert.match(
          manager.log(),
          /no shutdown token is accepted: .* open to others \(mode 0644\)/,
        );
        assert.doesNotMatch(manager.log(), /the old one|the new"/);
      });
    }));
});
