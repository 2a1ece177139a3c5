import assert from 'node:assert/strict';
import { connect, type Socket } from 'node:net';
import { describe, it } from 'node:test';
import { holdTcp } from '../support/clients.js';
import { type TestHost, withHost } from '../support/host.js';
import { eventually } from '../support/wait.js';

/** Node itself needs about 25. */
const FEW_FILES = 64;
const MANY = 200;

describe('a manager that has used up its file descriptors', () => {
  it('neither takes Envoy for gone nor loses the drain under way, and answers again afterwards', () =>
    withHost({}, async (host) => {
      const wrapper = ['sh', '-c', `ulimit -n ${FEW_FILES}; exec "$@"`, 'sh'];
      await host.startManager({ wrapper });
      const target = await host.startGeneration();
      const held = await holdTcp(target.ports.tcp);
      const caller = host.http('POST', '/shutdown');
      await eventually('the drain to wait', () => target.record()?.phase === 'wait');
      const idle = openMany(host);
      try {
        const polled = target.proxy.polls();
        await eventually('more polls', () => target.proxy.polls() > polled + 2, 60_000);
        assert.equal(target.record()?.result, undefined, 'a connection is still open');
        await held.echo('still here');
        held.close();
        const { status, body } = await caller;
        assert.deepEqual([status, JSON.parse(body).outcome], [200, 'drained']);
      } finally {
        for (const socket of idle) socket.destroy();
      }
      await eventually('/healthz', async () => (await host.http('GET', '/healthz')).status === 200);
    }));

  it('is begun in that state: the drain does not take Envoy for gone', () =>
    withHost({}, async (host) => {
      const wrapper = ['sh', '-c', `ulimit -n ${FEW_FILES}; exec "$@"`, 'sh'];
      const manager = await host.startManager({ wrapper });
      const target = await host.startGeneration();
      const held = await holdTcp(target.ports.tcp);
      const idle = openMany(host);
      try {
        await eventually('them to be open', () => idle.filter(isOpen).length > 10);
        manager.kill('SIGTERM');
        await eventually('the drain to wait', () => target.record()?.phase === 'wait', 60_000);
        await held.echo('still here');
        held.close();
        assert.equal(await manager.exited, 0);
        assert.equal(target.record()?.result?.outcome, 'drained');
      } finally {
        for (const socket of idle) socket.destroy();
      }
    }));
});

function openMany(host: TestHost): Socket[] {
  const { port, hostname } = new URL(host.url());
  return Array.from({ length: MANY }, () => {
    const socket = connect({ port: Number(port), host: hostname });
    socket.on('error', () => undefined);
    return socket;
  });
}

function isOpen(socket: Socket): boolean {
  return socket.readyState === 'open';
}
