import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { connectionsIn, countSockets, listConnections } from '../../src/host/sockets.js';
import { makeTempFolder } from './fakes.js';

const NOBODY = 4_194_000;

const ipAt = (text: string) => ({ kind: 'ip' as const, text, countedAs: text.replace(':', '_') });

describe('countSockets', { skip: process.platform !== 'linux' }, () => {
  it('is undefined, not 0, of a process that can not be looked at', () => {
    assert.equal(countSockets(NOBODY, [ipAt('127.0.0.1:80')]), undefined);
    assert.equal(listConnections(NOBODY, [80]), undefined);
  });

  it('is 0 of a process without connections on these addresses', () => {
    const nothing = { byListener: {}, udp: [] };
    assert.deepEqual(countSockets(process.pid, [ipAt('127.0.0.1:1')]), nothing);
  });

  it('counts what is connected over a unix socket, and not the listening one', async () => {
    const path = join(makeTempFolder(), 'web.sock');
    const server = createServer().listen(path);
    await once(server, 'listening');
    const address = { kind: 'unix' as const, text: path, countedAs: path };
    assert.deepEqual(countSockets(process.pid, [address])?.byListener, {});
    const client = connect(path);
    await Promise.all([once(server, 'connection'), once(client, 'connect')]);
    assert.deepEqual(countSockets(process.pid, [address])?.byListener, { [path]: 1 });
    client.destroy();
    server.close();
  });

  it('names what it can not count: UDP', async () => {
    const socket = createSocket('udp4');
    socket.bind(0, '127.0.0.1');
    await once(socket, 'listening');
    const text = `127.0.0.1:${socket.address().port}`;
    assert.deepEqual(countSockets(process.pid, [ipAt(text)])?.udp, [text]);
    socket.close();
  });
});

describe('connectionsIn', () => {
  it('counts a connection once whose row the kernel has handed out twice', () => {
    const row = (number: number, inode: number): string =>
      `   ${number}: 0100007F:2710 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 ${inode} 1 0000000000000000 20 4 30 10 -1\n`;
    const table = `  sl  local_address rem_address\n${row(1, 7)}${row(2, 7)}${row(3, 8)}`;
    assert.deepEqual(
      connectionsIn(table, [10_000]).map(({ inode }) => inode),
      [7, 8],
    );
  });
});

describe('listConnections', { skip: process.platform !== 'linux' }, () => {
  for (const [host, address] of [
    ['127.0.0.1', '127.0.0.1'],
    ['::1', '[::1]'],
  ] as const) {
    it(`names both sides of a connection over ${host}, and leaves out the listening socket`, async () => {
      const server = createServer().listen(0, host);
      await once(server, 'listening');
      const { port } = server.address() as AddressInfo;
      const client = connect(port, host);
      await Promise.all([once(server, 'connection'), once(client, 'connect')]);
      const found = listConnections(process.pid, [port]) ?? assert.fail('not readable');
      assert.deepEqual(
        found.map(({ peer, local, localPort }) => ({ peer, local, localPort })),
        [{ peer: `${address}:${client.localPort}`, local: `${address}:${port}`, localPort: port }],
      );
      client.destroy();
      server.close();
    });
  }
});
