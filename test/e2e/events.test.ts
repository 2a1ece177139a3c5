import assert from 'node:assert/strict';
import { get, type IncomingMessage } from 'node:http';
import { describe, it } from 'node:test';
import { holdTcp } from '../support/clients.js';
import { type TestPm2, withPm2 } from '../support/pm2.js';
import { eventually } from '../support/wait.js';

/** A client of /events, with what it has received. */
interface Stream {
  response: IncomingMessage;
  /** Data of the events of one name, parsed. */
  // biome-ignore lint/suspicious/noExplicitAny: the answers are JSON of many shapes
  of(name: string): any[];
  lastId(): string | undefined;
  isOver(): boolean;
  close(): void;
}

async function open(pm2: TestPm2, headers: Record<string, string> = {}): Promise<Stream> {
  const request = get({ host: '127.0.0.1', port: pm2.ports.serve, path: '/events', headers });
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    request.once('response', resolve);
    request.once('error', reject);
  });
  let text = '';
  let isOver = false;
  response.setEncoding('utf8');
  response.on('data', (part) => {
    text += part;
  });
  response.on('close', () => {
    isOver = true;
  });
  const blocks = (): string[] => text.split('\n\n').slice(0, -1);
  return {
    response,
    of: (name) =>
      blocks()
        .filter((block) => block.startsWith(`event: ${name}\n`))
        .map((block) => JSON.parse(/^data: (.*)$/m.exec(block)?.[1] ?? '')),
    lastId: () => [...text.matchAll(/^id: (.*)$/gm)].at(-1)?.[1],
    isOver: () => isOver,
    close: () => request.destroy(),
  };
}

const texts = (stream: Stream): string[] => stream.of('log').map(({ text }) => text);

describe('GET /events', { concurrency: 2 }, () => {
  it('tells the status immediately and at each change, and what happens in a drain', () =>
    withPm2({ 'check-delay': '1s' }, async (pm2) => {
      const stream = await open(pm2);
      assert.equal(stream.response.headers['content-type'], 'text/event-stream; charset=utf-8');
      const [first] = await eventually(
        'a status',
        () => stream.of('status').length > 0 && stream.of('status'),
      );
      assert.deepEqual([first.phase, first.connections.open], ['idle', 0]);

      const held = await holdTcp(pm2.ports.tcp);
      await eventually(
        'the connection to be told',
        () => stream.of('status').at(-1).connections.open === 1,
      );
      const count = stream.of('status').length;
      const answer = pm2.http('POST', '/shutdown');
      await eventually('the wait', () =>
        texts(stream).some((text) => text.startsWith('listeners closed')),
      );
      const now = await eventually('who holds it', () => {
        const last = stream.of('status').at(-1);
        return last.phase === 'wait' && last.oldestPeers?.length > 0 && last;
      });
      assert.match(now.oldestPeers[0].peer, /^127\.0\.0\.1:\d+$/);
      assert.equal(now.oldestPeers[0].local, `127.0.0.1:${pm2.ports.tcp}`);
      held.close();
      assert.equal((await answer).status, 200);
      await eventually('the end', () =>
        texts(stream).some((text) =>
          /^the drain ended: drained after .*, 0 connections left$/.test(text),
        ),
      );
      await eventually('the last status', () => stream.of('status').at(-1).outcome === 'drained');
      assert.ok(stream.of('status').length < count + 8, 'one at each change, not at each poll');
      stream.close();
    }));

  it('tells a client that reconnects what it has missed, and nothing twice', () =>
    withPm2({}, async (pm2) => {
      const stream = await open(pm2);
      await eventually('a status', () => stream.of('status').length > 0);
      await pm2.pm2('reload', 'envoy');
      await eventually('the hand-over', () => texts(stream).includes('generation 1 has ended'));
      assert.ok(texts(stream).includes('generation 2 is serving (Envoy 1.40.0)'));
      assert.ok(texts(stream).some((text) => text.startsWith('the hand-over ended: drained')));
      const [seen] = stream.of('log');
      stream.close();

      const back = await open(pm2, { 'last-event-id': seen.id });
      await eventually('a status', () => back.of('status').length > 0);
      assert.deepEqual(texts(back), texts(stream).slice(1));
      back.close();
      const fresh = await open(pm2, { 'last-event-id': 'of-another-manager-7' });
      await eventually('a status', () => fresh.of('status').length > 0);
      assert.deepEqual(texts(fresh), texts(stream));
      fresh.close();
    }));

  it('ends when the manager leaves, and does not keep it from leaving', () =>
    withPm2({}, async (pm2) => {
      const stream = await open(pm2);
      await eventually('a status', () => stream.of('status').length > 0);
      await pm2.pm2('stop', 'envoy-manager');
      await eventually('the end', () => stream.isOver());
    }));

  it('is for those who are trusted, and for GET only', () =>
    withPm2({}, async (pm2) => {
      const refused = await open(pm2, { 'x-forwarded-for': '10.0.0.9' });
      assert.equal(refused.response.statusCode, 403);
      const head = await fetch(`http://127.0.0.1:${pm2.ports.serve}/events`, { method: 'HEAD' });
      assert.deepEqual([head.status, head.headers.get('allow')], [405, 'GET']);
    }));
});
