import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { describe, it } from 'node:test';
import { type Held, holdIdle, holdTcp, holdWebSocket, request } from '../support/clients.js';
import { withHeldDelay } from '../support/held-delay.js';
import { statusOf, type TestPm2, withPm2 } from '../support/pm2.js';
import { eventually, letPass, patiently } from '../support/wait.js';

const KINDS: Readonly<Record<string, (pm2: TestPm2) => Promise<Pick<Held, 'close'>>>> = {
  'an idle keep-alive connection': ({ ports }) => holdIdle(ports.http),
  'a TCP connection': ({ ports }) => holdTcp(ports.tcp),
  'a WebSocket': ({ ports }) => holdWebSocket(ports.http),
  'a connection that has sent nothing': holdSilent,
};

describe('POST /shutdown', { concurrency: 2 }, () => {
  it('blocks while a connection of any kind is open, and returns within 0.3 s of its end', async () => {
    const delays: number[] = [];
    for (const [kind, hold] of Object.entries(KINDS)) {
      await withPm2({}, async (pm2) => {
        const held = await hold(pm2);
        let closedAt = 0;
        const answer = pm2.http('POST', '/shutdown').then((reply) => {
          delays.push(performance.now() - closedAt);
          return reply;
        });
        await eventually('the drain to wait', async () => (await statusOf(pm2)).phase === 'wait');
        const early = await Promise.race([
          answer.then(() => true),
          letPass(1_000).then(() => false),
        ]);
        assert.equal(early, false, `${kind} holds the answer`);
        assert.equal((await statusOf(pm2)).connections.open, 1, kind);
        closedAt = performance.now();
        held.close();
        const { status: code, body } = await answer;
        const { outcome, connectionsAtStart, connectionsLeft } = JSON.parse(body);
        assert.deepEqual(
          { code, outcome, connectionsAtStart, connectionsLeft },
          { code: 200, outcome: 'drained', connectionsAtStart: 1, connectionsLeft: 0 },
        );
      });
    }
    delays.sort((a, b) => a - b);
    const median = delays[Math.floor((delays.length - 1) / 2)] ?? Infinity;
    assert.ok(median <= 300, `the answers came ${delays.map(Math.round)} ms after the last close`);
  });

  it('is by the manager’s settings: a call’s own are said not to be used', () =>
    withPm2({}, async (pm2) => {
      const held = await holdTcp(pm2.ports.tcp);
      const called = pm2.cli('shutdown', '--check-delay', '5s', '--drain-timeout', '7s');
      await patiently('the drain to wait', async () => (await statusOf(pm2)).phase === 'wait');
      held.close();
      const { code, stderr } = await called;
      assert.equal(code, 0, stderr);
      assert.match(
        stderr,
        /--check-delay, --drain-timeout are not used: the manager at \S+ drains with its own settings/,
      );
    }));

  it('is answered immediately after the drain, for GET too', () =>
    withPm2({}, async (pm2) => {
      const first = await pm2.http('POST', '/shutdown');
      const again = await pm2.http('GET', '/shutdown');
      assert.deepEqual(again, first);
      assert.equal((await statusOf(pm2)).outcome, 'drained');
    }));

  it('serves new connections until the listeners close, and refuses them then', () =>
    withHeldDelay(async (pm2, endDelay) => {
      const held = await holdTcp(pm2.ports.tcp);
      const answer = pm2.http('POST', '/shutdown');
      await eventually('the delay', async () => (await statusOf(pm2)).phase === 'delay');
      assert.equal((await request(pm2.ports.http)).status, 200);
      assert.equal((await pm2.http('GET', '/readyz')).status, 503);
      endDelay();
      await eventually(
        'the listeners to close',
        async () => (await statusOf(pm2)).phase === 'wait',
      );
      await assert.rejects(request(pm2.ports.http), /ECONNREFUSED/);
      await held.echo('still here');
      held.close();
      assert.equal((await answer).status, 200);
    }));

  it('ends in a 504 with what is left when drain-timeout is over', () =>
    withPm2({ 'drain-timeout': '6s' }, async (pm2) => {
      const held = await holdTcp(pm2.ports.tcp);
      const { status: code, body } = await pm2.http('POST', '/shutdown');
      assert.equal(code, 504);
      assert.deepEqual(
        [JSON.parse(body).outcome, JSON.parse(body).connectionsLeft],
        ['timeout', 1],
      );
      held.close();
    }));

  it('with a quiet-period loses none of 100 requests/s that go on for 10 s', () =>
    withPm2({ 'check-delay': '30s', 'quiet-period': '4s', 'drain-timeout': '60s' }, async (pm2) => {
      const startedAt = Date.now();
      const answer = pm2.http('POST', '/shutdown');
      const requests: Promise<number>[] = [];
      while (Date.now() - startedAt < 10_000 || requests.length < 300) {
        requests.push(request(pm2.ports.http).then((reply) => reply.status));
        await letPass(10);
      }
      const statuses = await Promise.all(requests);
      assert.deepEqual(new Set(statuses), new Set([200]));
      const { status: code, body } = await answer;
      assert.deepEqual([code, JSON.parse(body).outcome], [200, 'drained']);
      const tookMs = JSON.parse(body).durationMs;
      assert.ok(tookMs < 30_000, `the quiet period ended the delay early, after ${tookMs} ms`);
    }));

  it('with drain-until requests is not held by an idle connection, but by a WebSocket', () =>
    withPm2({ 'drain-until': 'requests' }, async (pm2) => {
      const idle = await holdIdle(pm2.ports.http);
      const socket = await holdWebSocket(pm2.ports.http);
      const answer = pm2.http('POST', '/shutdown');
      await eventually('the drain to wait', async () => (await statusOf(pm2)).phase === 'wait');
      const early = await Promise.race([answer.then(() => true), letPass(1_500).then(() => false)]);
      assert.equal(early, false, 'the WebSocket holds it');
      socket.close();
      const { status: code, body } = await answer;
      assert.deepEqual([code, JSON.parse(body).connectionsLeft], [200, 1]);
      idle.close();
    }));

  it('answers 1,000 callers, and /healthz meanwhile', () =>
    withPm2({}, async (pm2) => {
      const held = await holdTcp(pm2.ports.tcp);
      const callers = Array.from({ length: 1_000 }, () => pm2.http('POST', '/shutdown'));
      await eventually('the drain to wait', async () => (await statusOf(pm2)).phase === 'wait');
      const probes: number[] = [];
      for (let probe = 0; probe < 15; probe += 1) {
        const from = performance.now();
        assert.equal((await pm2.http('GET', '/healthz')).status, 200);
        probes.push(performance.now() - from);
      }
      held.close();
      const answers = await Promise.all(callers);
      assert.deepEqual(new Set(answers.map(({ status: code }) => code)), new Set([200]));
      assert.equal(
        new Set(answers.map(({ body }) => body)).size,
        1,
        'everybody got the same result',
      );
      probes.sort((a, b) => a - b);
      // A kubelet waits for a second, unless told otherwise.
      assert.ok((probes[7] ?? Infinity) < 1_000, `/healthz took ${probes.map(Math.round)} ms`);
    }));

  it('goes on when its caller hangs up', () =>
    withPm2({}, async (pm2) => {
      const held = await holdTcp(pm2.ports.tcp);
      const caller = connect({ port: pm2.ports.serve, host: '127.0.0.1' });
      await once(caller, 'connect');
      caller.write('POST /shutdown HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n');
      await eventually('the drain to wait', async () => (await statusOf(pm2)).phase === 'wait');
      caller.destroy();
      held.close();
      await eventually('the drain to end', async () => (await statusOf(pm2)).outcome === 'drained');
    }));
});

describe('pm2-envoy shutdown, without the manager', () => {
  it('goes by the settings of the app, and by its own options', () =>
    withPm2({ 'check-delay': '1s', 'drain-timeout': '50s' }, async (pm2) => {
      await pm2.pm2('stop', 'envoy-manager');
      // Another shell, which knows only where to look.
      delete pm2.env['PM2_ENVOY_CONFIG'];
      pm2.env['PM2_ENVOY_RUN_DIR'] = String(pm2.settings['run-dir']);
      const { code, stderr } = await pm2.cli('shutdown', '--check-delay', '0s');
      assert.equal(code, 0, stderr);
      assert.match(stderr, /with check-delay 0s and drain-timeout 50s of the app envoy/);
    }));
});

async function holdSilent(pm2: TestPm2): Promise<Pick<Held, 'close'>> {
  const socket = connect({ port: pm2.ports.http, host: '127.0.0.1' });
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  // What waits in an accept queue is reset when the listener closes.
  await eventually('Envoy to accept it', async () => (await statusOf(pm2)).connections?.open === 1);
  return { close: () => void socket.destroy() };
}
