import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { createAdminClient } from '../../src/admin/client.js';
import { isEnvoy } from '../../src/envoy/bootstrap.js';
import { startAdminRelay } from '../../src/envoy/relay.js';
import { request } from '../support/clients.js';
import { envoyBinary } from '../support/envoy.js';
import { makeFolder } from '../support/folder.js';
import { preparePm2 } from '../support/pm2.js';
import { eventually } from '../support/wait.js';

describe('isEnvoy', () => {
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
      const relay = await startAdminRelay(relayOf(path), () => join(folder, 'own.sock'));
      const client = createAdminClient({ kind: 'unix', path }, 2_000);
      assert.equal(await client.state(), 'LIVE');
      client.close();
      await relay.close();
      newest.close();
    }));

  it('leaves a socket alone on which someone else answers', () =>
    withFolder(async (folder) => {
      const path = join(folder, 'taken.sock');
      const other = createServer((socket) => socket.end());
      await new Promise<void>((resolve) => other.listen(path, resolve));
      await assert.rejects(
        startAdminRelay(relayOf(path), () => undefined),
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

function relayOf(path: string) {
  return { address: { path, mode: undefined }, allowPaths: [] };
}

async function withFolder(use: (folder: string) => Promise<void>): Promise<void> {
  const folder = makeFolder();
  try {
    await use(folder.path);
  } finally {
    folder.remove();
  }
}
