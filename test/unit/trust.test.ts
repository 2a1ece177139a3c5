import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, it } from 'node:test';
import express, { type Request, type Response } from 'express';
import { silentLog } from '../../src/log.js';
import { createTrust } from '../../src/manager/http/trust.js';
import { createFakeClock, createFakeLog } from './fakes.js';

function createFixture(token?: string) {
  const clock = createFakeClock();
  const { log, entries } = createFakeLog();
  let reads = 0;
  const readToken = () => {
    reads += 1;
    return token;
  };
  const refused: string[] = [];
  const onRefused = (kind: string): void => void refused.push(kind);
  const trust = createTrust({ readToken, log, onRefused, clock });
  const ask = (
    kind: 'toLook' | 'toChange',
    headers: Record<string, string> = {},
    remoteAddress = '10.0.0.1',
  ): number => {
    let status = 0;
    const response = {
      status: (code: number) => {
        status = code;
        return { json: () => undefined };
      },
    };
    const request = {
      headers: { host: '127.0.0.1', ...headers },
      socket: { remoteAddress },
      method: 'GET',
      path: '/shutdown',
    };
    trust[kind](request as unknown as Request, response as unknown as Response, () => {
      status = 200;
    });
    return status;
  };
  return { ask, clock, entries, refused, readsOfToken: () => reads };
}

describe('createTrust', () => {
  it('passes on this host, and answers anyone else with 403', () => {
    const { ask } = createFixture();
    for (const kind of ['toLook', 'toChange'] as const) {
      assert.equal(ask(kind, {}, '127.0.0.1'), 200);
      assert.equal(ask(kind), 403);
    }
  });

  it('answers a browser that asks for the page with a page', async () => {
    const server = createServer(
      express().get('/', createTrust({ readToken: () => undefined, log: silentLog }).toLook),
    ).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const headers = { accept: 'text/html,*/*;q=0.8', 'x-forwarded-for': '10.0.0.7' };
    const reply = await fetch(`http://127.0.0.1:${port}/`, { headers });
    const body = await reply.text();
    server.close();
    assert.equal(reply.status, 403);
    assert.match(reply.headers.get('content-type') ?? '', /text\/html/);
    assert.match(body, /<h1>Refused<\/h1>[\s\S]*x-forwarded-for/);
    assert.ok(body.includes(`ssh -L ${port}:127.0.0.1:${port} HOST`), body);
  });

  it('lets an address that a browser was led to look, but not change', () => {
    const { ask } = createFixture();
    const led = { 'sec-fetch-site': 'none', 'sec-fetch-mode': 'navigate' };
    assert.equal(ask('toLook', led, '127.0.0.1'), 200);
    assert.equal(ask('toChange', led, '127.0.0.1'), 403);
  });

  it('reads the token for each request that brings one, and for no other', () => {
    const { ask, readsOfToken } = createFixture('hunter2');
    assert.equal(ask('toChange'), 403);
    assert.equal(readsOfToken(), 0);
    assert.equal(ask('toChange', { authorization: 'Bearer hunter2' }), 200);
    assert.equal(ask('toChange', { authorization: 'Bearer hunter' }), 403);
    assert.equal(readsOfToken(), 2);
  });

  it('logs who was refused and why, without what they sent as a token', () => {
    const { ask, entries } = createFixture('hunter2');
    ask('toChange', { authorization: 'Bearer hunter' });
    const { remoteAddress, path, method, msg, level } = entries[0] as unknown as Record<
      string,
      string
    >;
    assert.deepEqual(
      { remoteAddress, path, method, level },
      { remoteAddress: '10.0.0.1', path: '/shutdown', method: 'GET', level: 'warn' },
    );
    assert.match(
      msg ?? '',
      /^refused: it comes from another host, and its Authorization is not the shutdown token$/,
    );
    assert.doesNotMatch(JSON.stringify(entries), /hunter/);
  });

  it('tells what each refusal is for', () => {
    const { ask, refused } = createFixture();
    ask('toLook', {}, '127.0.0.1');
    ask('toLook');
    ask('toLook', { via: '1.1 proxy' }, '127.0.0.1');
    ask('toLook', { host: 'evil.com' }, '127.0.0.1');
    ask('toLook', { origin: 'http://evil.com' }, '127.0.0.1');
    ask('toChange', { 'sec-fetch-site': 'none', 'sec-fetch-mode': 'navigate' }, '127.0.0.1');
    assert.deepEqual(refused, ['other-host', 'proxy', 'host-name', 'browser', 'browser']);
  });

  it('logs at most a hundred refusals a minute, and says how many more there were', () => {
    const { ask, clock, entries } = createFixture();
    for (let count = 0; count < 1_000; count += 1) assert.equal(ask('toLook'), 403);
    assert.equal(entries.length, 101);
    clock.advance(60_000);
    ask('toLook');
    const [summary, next] = entries.slice(101).map(({ msg }) => msg);
    assert.equal(summary, 'refused 900 more requests');
    assert.match(next ?? '', /^refused: /);
  });
});
