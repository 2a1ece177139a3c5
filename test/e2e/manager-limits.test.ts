import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { describe, it } from 'node:test';
import { type Held, holdIdle, holdTcp } from '../support/clients.js';
import { type TestHost, withHost } from '../support/host.js';
import { eventually } from '../support/wait.js';

/** Node itself needs about 25. */
const FEW_FILES = 64;
const MANY = 200;
const CONNECTIONS = 5_000;
/** An idle manager has about 90. */
const MOST_MEGABYTES = 200;

describe('a manager that has used up its file descriptors', () => {
  it('neither takes Envoy for gone nor loses the drain under way, and answers again afterwards', () =>
    withHost({ 'drain-timeout': '3m' }, async (host) => {
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
    withHost({ 'drain-timeout': '3m' }, async (host) => {
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

describe('an Envoy with 5,000 connections', () => {
  it('is drained when the last one has gone, and the manager stays small meanwhile', () =>
    withHost({ 'drain-timeout': '4m' }, async (host) => {
      const manager = await host.startManager();
      const target = await host.startGeneration();
      const held = await holdMany(target.ports.http);
      const caller = host.http('POST', '/shutdown');
      await eventually('the drain to wait', () => target.record()?.phase === 'wait', 60_000);
      const polled = target.proxy.polls();
      await eventually('more polls', () => target.proxy.polls() > polled + 2, 60_000);
      await eventually('/status to count them', async () => {
        const { connections } = JSON.parse((await host.http('GET', '/status')).body);
        return connections?.open === CONNECTIONS;
      });
      // On a busy machine not each time.
      await eventually('the manager to answer meanwhile', async () => {
        const askedMs = Date.now();
        const { status } = await host.http('GET', '/healthz');
        return status === 200 && Date.now() - askedMs < 5_000;
      });
      for (const connection of held) connection.close();
      const closedMs = Date.now();
      const { outcome, connectionsAtStart } = JSON.parse((await caller).body);
      assert.deepEqual([outcome, connectionsAtStart], ['drained', CONNECTIONS]);
      assert.ok(Date.now() - closedMs < 60_000, `noticed after ${Date.now() - closedMs} ms`);
      assert.ok(target.proxy.requests() < 200, `Envoy was asked ${target.proxy.requests()} times`);
      const memory = memoryPeakOf(manager.pid);
      assert.ok(memory < MOST_MEGABYTES, `the manager has used ${memory} MB`);
    }));
});

async function holdMany(port: number): Promise<Held[]> {
  const held: Held[] = [];
  while (held.length < CONNECTIONS) {
    held.push(...(await Promise.all(Array.from({ length: 100 }, () => holdIdle(port)))));
  }
  return held;
}

function memoryPeakOf(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1]) / 1_024;
}

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
