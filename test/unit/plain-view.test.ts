import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  createDrainLines,
  drainLine,
  peersNote,
  plainText,
  stamped,
  watchLine,
} from '../../src/cli/view/plain-view.js';
import { draining, ended, openOn, statusWith } from './statuses.js';

const AT = new Date('2026-11-22T20:34:41.320Z');
const TWO = openOn({ '0.0.0.0_10000': 3, '0.0.0.0_10001': 1 }, { websocket: 3, tcp: 1 });

describe('drainLine', () => {
  it('says the phase and what is open; times and rates are beside', () => {
    const status = draining('delay', 4_000, { connections: TWO, newConnectionsPerSecond: 12.5 });
    assert.deepEqual(drainLine(status), {
      text: 'delay: 4 of 10 open (1 tcp, 3 websocket)',
      more: 'at most 4m56s left, 12.5 new a second',
    });
  });

  it('says in wait what holds the drain, and until when', () => {
    const peer = { peer: '10.0.0.7:1', local: 'l', generation: 1, seenForMs: 312_000 };
    const status = draining('wait', 72_000, {
      connections: TWO,
      paceLeftMs: 120_000,
      oldestPeers: [peer],
    });
    assert.equal(
      drainLine(status).more,
      'at most 3m48s left, about 2m at this pace, 3 on 0.0.0.0_10000, 1 on 0.0.0.0_10001, oldest 10.0.0.7:1, seen for 5m12s',
    );
  });

  it('says that connections can’t be counted', () => {
    const { text } = drainLine(draining('wait', 0, { connections: null }));
    assert.equal(text, 'wait: connections unknown');
  });
});

describe('createDrainLines', () => {
  const open = (count: number) => ({ connections: openOn({ a: count }) });

  it('says each phase once', () => {
    const lines = createDrainLines();
    assert.equal(lines.next(draining('delay', 0), 0).length, 1);
    assert.equal(lines.next(draining('delay', 500, open(3)), 500).length, 0);
    assert.equal(lines.next(draining('delay', 60_000, open(2)), 60_000).length, 0);
    assert.equal(lines.next(draining('wait', 60_500), 60_500).length, 1);
  });

  it('says in wait how many are open when that has changed, each ten seconds at most', () => {
    const lines = createDrainLines();
    const at = (ms: number, count: number): string[] =>
      lines.next(draining('wait', ms, open(count)), ms).map(({ text }) => text);
    assert.deepEqual(at(0, 9), ['wait: 9 of 10 open (9 tcp)']);
    assert.deepEqual(at(500, 8), []);
    assert.deepEqual(at(9_999, 7), []);
    assert.deepEqual(at(10_000, 7), ['wait: 7 of 10 open (7 tcp)']);
    assert.deepEqual(at(60_000, 7), []);
    assert.deepEqual(at(60_500, 6), ['wait: 6 of 10 open (6 tcp)']);
  });

  it('says once why peers can’t be seen, in wait', () => {
    const lines = createDrainLines();
    const status = (ms: number, count: number) =>
      draining('wait', ms, { ...open(count), oldestPeersNote: 'only Linux shows them (/proc)' });
    const [, note] = lines.next(status(0, 2), 0);
    assert.equal(note?.text, 'oldest peers unknown: only Linux shows them (/proc)');
    assert.equal(lines.next(status(20_000, 1), 20_000).length, 1);
  });
});

describe('watchLine', () => {
  it('says what Envoy does', () => {
    assert.deepEqual(watchLine(statusWith({ newConnectionsPerSecond: 2 })), {
      text: 'idle: 4 open (4 tcp), Envoy 1.40.0 LIVE (generation 1)',
      more: '2 new a second',
    });
  });

  it('says how a drain has ended', () => {
    assert.match(watchLine(ended('timeout')).text, /^timeout: 4 open/);
  });

  it('says that there is no Envoy, or that it is silent', () => {
    const none = statusWith({ envoy: null, generations: [], connections: null });
    assert.equal(watchLine(none).text, 'idle: connections unknown, no Envoy');
    const { envoy } = statusWith();
    assert.ok(envoy);
    const silent = { ...envoy, version: null, state: null };
    assert.match(watchLine(statusWith({ envoy: silent })).text, /, Envoy silent \(generation 1\)$/);
  });

  it('has no Envoy while the first one is starting, and says that', () => {
    const [one = assert.fail()] = statusWith().generations;
    const status = statusWith({ generations: [{ ...one, state: 'starting' }] });
    assert.match(watchLine(status).text, /, no Envoy, generation 1 is starting$/);
  });

  it('names the generations that come and go', () => {
    const [serving = assert.fail()] = statusWith().generations;
    const status = statusWith({
      generations: [
        { ...serving, state: 'handing-over' },
        { ...serving, number: 2 },
        { ...serving, number: 3, state: 'starting', connections: null },
      ],
    });
    assert.match(
      watchLine(status).text,
      /, generation 1 hands over with 4 open, generation 3 is starting$/,
    );
  });

  it('stays the same while only times and rates change', () => {
    const at = (elapsedMs: number) =>
      watchLine(draining('wait', elapsedMs, { paceLeftMs: elapsedMs })).text;
    assert.equal(at(1_000), at(60_000));
  });
});

describe('peersNote', () => {
  it('says why peers are unknown', () => {
    const status = statusWith({ oldestPeersNote: 'only Linux shows them (/proc)' });
    assert.equal(peersNote(status), 'oldest peers unknown: only Linux shows them (/proc)');
  });

  it('says nothing where they are known, where no reason was given, or where it is said already', () => {
    assert.equal(peersNote(statusWith({ oldestPeers: [] })), undefined);
    assert.equal(peersNote(statusWith()), undefined);
    const both = { oldestPeersNote: 'no answer', lastError: 'no answer' };
    assert.equal(peersNote(statusWith(both)), undefined);
  });
});

describe('stamped', () => {
  it('begins with the time, and is one line without control characters', () => {
    assert.equal(
      stamped({ text: 'wait: a\u001b[2J\nb', more: 'c' }, AT),
      '2026-11-22T20:34:41.320Z wait: a [2J b; c',
    );
    assert.equal(stamped(plainText('x'), AT), '2026-11-22T20:34:41.320Z x');
  });
});
