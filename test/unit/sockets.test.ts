import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { describe, it } from 'node:test';
import { countConnections, listConnections } from '../../src/host/sockets.js';

const NOBODY = 4_194_000;

describe('countConnections', { skip: process.platform !== 'linux' }, () => {
  it('is undefined, not 0, of a process that can not be looked at', () => {
    assert.equal(countConnections(NOBODY, [80]), undefined);
    assert.equal(listConnections(NOBODY, [80]), undefined);
  });

  it('is 0 of a process without connections on these ports', () => {
    assert.deepEqual(countConnections(process.pid, [1]), {});
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
