import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { readStatusAnswer } from '../../src/status/status-answer.js';
import { statusWith } from './statuses.js';

describe('readStatusAnswer', () => {
  it('takes a status as it is', () => {
    const status = statusWith();
    assert.deepEqual(readStatusAnswer(status), status);
  });

  it('takes that of an earlier manager, whose answer lacks what came later', () => {
    const { phase, outcome, startedAt, deadline, timeLeftMs, connections, envoy } = statusWith();
    const earlier = { phase, outcome, startedAt, deadline, timeLeftMs, connections, envoy };
    const status = readStatusAnswer(earlier);
    assert.deepEqual(status?.generations, []);
    assert.equal(status?.oldestPeers, null);
    assert.equal(status?.paceLeftMs, null);
    assert.deepEqual(status?.connections, connections);
  });

  it('has none of a kind that an earlier manager does not count', () => {
    const connections = { open: 1, byListener: { a: 1 }, byKind: { http1: 1 } };
    const { byKind } = readStatusAnswer({ ...statusWith(), connections })?.connections ?? {};
    assert.deepEqual(byKind, { http1: 1, http2: 0, http3: 0, tcp: 0, websocket: 0, udp: 0 });
  });

  it('keeps what a later manager says beside', () => {
    assert.equal(
      JSON.stringify(readStatusAnswer({ ...statusWith(), more: 1 })).includes('more'),
      true,
    );
  });

  const OTHERS: readonly unknown[] = [
    undefined,
    null,
    '',
    '<html>',
    [],
    {},
    { phase: 1 },
    { status: 'ok' },
    { phase: 'idle', connections: 'many' },
    { phase: 'idle', connections: { open: '1' } },
    { phase: 'idle', connections: { open: 1 } },
    { phase: 'idle', connections: { open: 1, byListener: { a: 'x' }, byKind: {} } },
    { phase: 'idle', envoy: 'LIVE' },
    { phase: 'idle', generations: {} },
    { phase: 'idle', generations: [1] },
    { phase: 'idle', oldestPeers: ['10.0.0.7'] },
    { phase: 'wait', timeLeftMs: 'soon' },
    { phase: 'wait', startedAt: 5 },
  ];
  for (const body of OTHERS) {
    it(`does not take ${JSON.stringify(body)} for one`, () =>
      assert.equal(readStatusAnswer(body), undefined));
  }
});
