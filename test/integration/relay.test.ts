import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { createAdminClient } from '../../src/admin/client.js';
import { isEnvoy, readBootstrapAdmin, validateBootstrap } from '../../src/envoy/bootstrap.js';
import { startAdminRelay } from '../../src/envoy/relay.js';
import { isPm2EnvoyError } from '../../src/errors.js';
import { writeBootstrap } from '../support/bootstrap.js';
import { request } from '../support/clients.js';
import { envoyBinary } from '../support/envoy.js';
import { makeFolder } from '../support/folder.js';
import { preparePm2 } from '../support/pm2.js';
import { freePorts } from '../support/ports.js';
import { eventually } from '../support/wait.js';

describe('readBootstrapAdmin', () => {
  for (const [text, admin] of [
    [
      'admin: {address: {socket_address: {address: 127.0.0.1, port_value: 9901}}}',
      { host: '127.0.0.1', port: 9901 },
    ],
    ['admin: {address: {pipe: {path: /run/a.sock}}}', { path: '/run/a.sock' }],
    ['static_resources: {}', undefined],
    ['', undefined],
    [
      '{"admin": {"address": {"socket_address": {"address": "::1", "port_value": 1}}}}',
      { host: '::1', port: 1 },
    ],
  ] as const) {
    it(`finds ${JSON.stringify(admin)} in ${text || 'nothing'}`, () =>
      withFolder(async (folder) => {
        const file = join(folder, 'envoy.yaml');
        writeFileSync(file, text);
        assert.deepEqual(readBootstrapAdmin(file), admin);
      }));
  }

  it('says in one line where the file is broken', () =>
    withFolder(async (folder) => {
      const file = join(folder, 'envoy.yaml');
      writeFileSync(file, 'a: [\nb: }\n');
      assert.throws(
        () => readBootstrapAdmin(file),
        (error) => {
          assert.ok(isPm2EnvoyError(error, 'bootstrap-invalid'));
          assert.ok(!error.message.includes('\n'));
          return true;
        },
      );
    }));
});

describe('validateBootstrap', () => {
  it('takes a bootstrap with an access log on /dev/stdout, and leaves no file behind', () =>
    withFolder(async (folder) => {
      const [http = 0, tcp = 0] = await freePorts(2);
      const bootstrap = join(folder, 'envoy.yaml');
      writeBootstrap(bootstrap, { http, tcp }, { httpPort: 1, tcpPort: 2 });
      await validateBootstrap(envoyBinary(), { bootstrap, args: [] }, folder);
      assert.equal(existsSync(join(folder, `validate-${process.pid}.log`)), false);
    }));

  it('refuses an argument that Envoy does not know', () =>
    withFolder(async (folder) => {
      const bootstrap = join(folder, 'envoy.yaml');
      writeFileSync(bootstrap, '{}');
      await assert.rejects(
        validateBootstrap(envoyBinary(), { bootstrap, args: ['--nonsense'] }, folder),
        (error) =>
          isPm2EnvoyError(error, 'bootstrap-invalid') && error.message.includes('nonsense'),
      );
    }));

  it('knows an Envoy from something else', async () => {
    assert.equal(await isEnvoy(envoyBinary()), true);
    assert.equal(await isEnvoy('/bin/true'), false);
    assert.equal(await isEnvoy('/nowhere'), false);
  });
});

describe('startAdminRelay', () => {
  it('takes the place of a socket file that was left, and passes on to the newest generation', () =>
    withFolder(async (folder) => {
      const path = join(folder, 'bootstrap.sock');
      const left = spawnSync(process.execPath, [
        '-e',
        `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`,
      ]);
      assert.equal(left.signal, 'SIGKILL');
      assert.equal(existsSync(path), true);
      const newest = createServer((socket) =>
        socket.end('HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nLIVE\n'),
      );
      await new Promise<void>((resolve) => newest.listen(join(folder, 'own.sock'), resolve));
      const relay = await startAdminRelay({ path }, () => join(folder, 'own.sock'));
      const client = createAdminClient({ kind: 'unix', path }, 2_000);
      assert.equal(await client.state(), 'LIVE');
      client.close();
      await relay.close();
      newest.close();
    }));

  it('leaves a socket alone on which somebody else answers', () =>
    withFolder(async (folder) => {
      const path = join(folder, 'taken.sock');
      const other = createServer((socket) => socket.end());
      await new Promise<void>((resolve) => other.listen(path, resolve));
      await assert.rejects(
        startAdminRelay({ path }, () => undefined),
        /EADDRINUSE/,
      );
      assert.equal(existsSync(path), true);
      other.close();
    }));

  it('under pm2 the admin port of the bootstrap answers, also during a reload', async () => {
    const pm2 = await preparePm2();
    try {
      await pm2.start();
      const admin = createAdminClient({ kind: 'tcp', url: `http://127.0.0.1:${pm2.ports.admin}` });
      const states: string[] = [];
      let over = false;
      const watch = (async () => {
        while (!over) {
          // A connection each, as a scrape makes one.
          const once = createAdminClient({ kind: 'tcp', url: admin.address });
          states.push(await once.state());
          once.close();
        }
      })();
      await pm2.pm2('reload', 'envoy');
      over = true;
      await watch;
      admin.close();
      assert.deepEqual([...new Set(states)], ['LIVE']);
      assert.ok(states.length > 20);
      assert.equal((await request(pm2.ports.http)).status, 200);
      await eventually('the access log on /dev/stdout', () =>
        pm2.log('envoy').includes('"GET / HTTP/1.1" 200'),
      );
    } finally {
      await pm2.stop();
    }
  });
});

async function withFolder(use: (folder: string) => Promise<void>): Promise<void> {
  const folder = makeFolder();
  try {
    await use(folder.path);
  } finally {
    folder.remove();
  }
}
