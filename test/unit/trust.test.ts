import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Request, Response } from 'express';
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
