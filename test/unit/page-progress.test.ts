import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  addLine,
  begin,
  hear,
  isStale,
  lose,
  passedMs,
  tick,
} from '../../src/manager/page/progress.js';
import type { LogLine } from '../../src/manager/page/state.js';
import { makeSnapshot, makeState, makeStatus, NOW_MS } from './page-states.js';

const line = (id: string): LogLine => ({
  id,
  at: '2026-11-24T14:00:00.000Z',
  kind: 'drain',
  text: id,
});

describe('hear', () => {
  it('makes the page live, and goes on with the readings that came with it', () => {
    const snapshot = makeSnapshot({ spans: [[NOW_MS - 5_000, NOW_MS, 12]] });
    const state = hear(begin(snapshot, makeStatus()), makeStatus(), NOW_MS + 500);
    assert.equal(state.link.kind, 'live');
    assert.deepEqual(state.spans, [[NOW_MS - 5_000, NOW_MS + 500, 12]]);
  });

  it('has no reading where the connections can’t be counted', () => {
    assert.deepEqual(makeState({ connections: null }).spans, []);
  });
});

describe('tick', () => {
  it('holds the count while the manager is heard from', () => {
    const state = tick(makeState(), NOW_MS + 5_000);
    assert.deepEqual(state.spans, [[NOW_MS, NOW_MS + 5_000, 12]]);
    assert.equal(passedMs(state), 5_000);
  });

  it('takes nothing for live that was heard long ago', () => {
    const state = tick(makeState(), NOW_MS + 9_001);
    assert.equal(state.link.kind, 'late');
    assert.ok(isStale(state));
    assert.deepEqual(state.spans, [[NOW_MS, NOW_MS, 12]]);
    assert.equal(passedMs(state), 0, 'no clock runs on from what is not known');
    const back = hear(state, makeStatus(), NOW_MS + 9_500);
    assert.equal(back.spans.length, 2, 'what was in between is not known');
  });

  it('leaves a lost connection lost', () => {
    const lost = lose(makeState(), 'it can’t be reached', NOW_MS + 1_000);
    assert.equal(tick(lost, NOW_MS + 2_000).link.kind, 'lost');
  });
});

describe('lose', () => {
  it('says so once, and that the connection is back', () => {
    let state = lose(makeState(), 'it can’t be reached', NOW_MS + 1_000);
    state = lose(state, 'it does not answer', NOW_MS + 3_000);
    state = hear(state, makeStatus(), NOW_MS + 7_000);
    assert.deepEqual(
      state.log.map(({ kind, text }) => [kind, text]),
      [
        ['page', 'connection to the manager lost: it can’t be reached'],
        ['page', 'connected to the manager again, after 7s'],
      ],
    );
    assert.equal(state.link.kind, 'live');
  });
});

describe('addLine', () => {
  it('takes each entry once, and keeps the latest 200', () => {
    let state = makeState();
    for (let count = 0; count < 250; count += 1) {
      state = addLine(addLine(state, line(`a-${count}`)), line(`a-${count}`));
    }
    assert.equal(state.log.length, 200);
    assert.equal(state.log.at(-1)?.id, 'a-249');
  });
});
