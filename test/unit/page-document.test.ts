import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { renderDocument, spansOf } from '../../src/manager/page/document.js';
import { renderRegions } from '../../src/manager/page/view.js';
import { exactSpan, moment, span } from '../../src/manager/page/words.js';
import {
  HOSTILE,
  makeDrain,
  makeGeneration,
  makeSnapshot,
  makeState,
  makeStatus,
  NOW_MS,
  textOf,
} from './page-states.js';

describe('renderDocument', () => {
  it('lets no text from elsewhere become markup, wherever it stands', () => {
    const one = makeGeneration({
      version: HOSTILE,
      failedReload: { at: HOSTILE, reason: HOSTILE },
      startedAt: HOSTILE,
    });
    const status = makeDrain({
      lastError: HOSTILE,
      startedAt: HOSTILE,
      deadline: HOSTILE,
      generations: [one, { ...one, state: 'handing-over', deadline: HOSTILE }, one],
      connections: {
        open: 1,
        byListener: { [HOSTILE]: 1 },
        byKind: { ...makeStatus().connections?.byKind, [HOSTILE]: 1 } as never,
      },
      oldestPeers: [{ peer: HOSTILE, local: HOSTILE, generation: HOSTILE as never, seenForMs: 1 }],
      envoy: {
        state: HOSTILE,
        silentSince: null,
        version: HOSTILE,
        uptimeSeconds: 1,
        concurrency: HOSTILE as never,
        listeners: 2,
        admin: HOSTILE,
        pid: null,
        generation: null,
      },
      lastPoll: { at: HOSTILE, tookMs: 1 },
    });
    const log = [{ id: HOSTILE, at: HOSTILE, kind: HOSTILE as never, text: HOSTILE }];
    const page = renderDocument(makeSnapshot({ host: HOSTILE, log }), status);
    assert.ok(page.split('&lt;/script&gt;').length > 15, 'it stands in many places');
    assert.doesNotMatch(page, /<img|<\/script><|onerror="/);
    assert.equal(page.split('<script').length, 2, 'one script, of ours');
    const unseen = makeState({ oldestPeers: null, oldestPeersNote: HOSTILE });
    assert.doesNotMatch(String(renderRegions(unseen).peers), /<img/);
  });

  it('has no script, style or address of elsewhere in it', () => {
    const page = renderDocument(makeSnapshot(), makeStatus());
    assert.doesNotMatch(page, / style=| on[a-z]+=|<style|javascript:|https?:\/\//);
    assert.match(page, /<script type="module" src="\/page\/main\.js"><\/script>/);
  });

  it('can be read without a script, and shows no button then', () => {
    const page = renderDocument(makeSnapshot(), makeStatus());
    assert.match(page, /<noscript>.*reload it, or use <code>pm2-envoy status<\/code>/);
    assert.match(page, /as it was<\/b> at <time[^>]*>14:03:20<\/time> UTC/);
    assert.match(page, /id="actions" class="actions" hidden/);
    assert.match(page, /<h2 class="good">In service<\/h2>/);
  });

  it('has an element for each part, and one part for each element that is one', () => {
    const page = renderDocument(makeSnapshot(), makeStatus());
    for (const name of Object.keys(renderRegions(makeState()))) {
      assert.equal(page.split(` id="${name}"`).length, 2, name);
    }
  });

  it('gives its script what to go on from', () => {
    const snapshot = makeSnapshot({ spans: [[1, 2, 3]] });
    const [, json = ''] =
      /data-snapshot="(.*?)"/.exec(renderDocument(snapshot, makeStatus())) ?? [];
    assert.deepEqual(JSON.parse(json.replaceAll('&quot;', '"')), snapshot);
  });
});

describe('spansOf', () => {
  it('puts the history on the clock of the page', () => {
    const history = [
      { atMs: 100, open: 1 },
      { atMs: 600, open: 1 },
      { atMs: 1_100, open: 2 },
    ];
    assert.deepEqual(spansOf(history, 5_000), [
      [5_100, 6_100, 1],
      [6_100, 6_100, 2],
    ]);
  });
});

describe('times', () => {
  it('are written to the two largest units', () => {
    for (const [ms, expected] of [
      [0, '0s'],
      [-5, '0s'],
      [400, '0s'],
      [59_600, '1m'],
      [192_000, '3m12s'],
      [3_600_000, '1h'],
      [18_120_000, '5h2m'],
      [273_600_000, '3d4h'],
      [86_401_000, '1d'],
    ] as const) {
      assert.equal(span(ms), expected);
    }
    assert.deepEqual(
      [exactSpan(3_220), exactSpan(59_949), exactSpan(59_950), exactSpan(76_000)],
      ['3.2s', '59.9s', '1m', '1m16s'],
    );
  });

  it('are UTC, with the day where it is not today', () => {
    assert.equal(textOf(String(moment('2026-11-24T00:00:01.000Z', NOW_MS))), '00:00:01');
    assert.equal(textOf(String(moment('2026-11-23T23:59:59.000Z', NOW_MS))), '2026-11-23 23:59:59');
    assert.equal(String(moment('soon', NOW_MS)), 'soon');
  });
});
