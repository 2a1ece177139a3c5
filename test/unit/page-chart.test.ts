import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { addReading, renderChart } from '../../src/manager/page/chart.js';
import type { Span } from '../../src/manager/page/state.js';
import { makeDrain, makeState, NOW_MS } from './page-states.js';

function read(...readings: readonly (readonly [atMs: number, open: number])[]): Span[] {
  return readings.reduce<Span[]>((spans, [atMs, open]) => addReading(spans, { atMs, open }), []);
}

const draw = (spans: readonly Span[], changed = {}): string =>
  String(renderChart(makeState({}, { spans, ...changed })));

describe('addReading', () => {
  it('holds a count until the next reading', () => {
    assert.deepEqual(read([0, 5], [1_000, 5], [2_000, 7], [3_000, 7]), [
      [0, 2_000, 5],
      [2_000, 3_000, 7],
    ]);
  });

  it('says nothing of the time between readings that are far apart, or were not watched', () => {
    assert.deepEqual(read([0, 5], [60_000, 5]), [
      [0, 0, 5],
      [60_000, 60_000, 5],
    ]);
    const broken = addReading(read([0, 5]), { atMs: 1_000, open: 5, isNext: false });
    assert.deepEqual(broken, [
      [0, 0, 5],
      [1_000, 1_000, 5],
    ]);
  });

  it('takes a clock that was set back, and keeps a bounded number', () => {
    assert.deepEqual(read([5_000, 1], [4_000, 1]), [[5_000, 5_000, 1]]);
    const many = Array.from({ length: 2_500 }, (_, index) => [index, index % 2] as const);
    assert.equal(read(...many).length, 2_000);
  });
});

describe('renderChart', () => {
  it('says in words what it shows', () => {
    const spans = read([NOW_MS - 30_000, 40], [NOW_MS - 25_000, 60], [NOW_MS - 20_000, 12]);
    assert.match(
      draw(spans),
      /role="img" width="640" height="208" aria-label="Open connections in the last 1m: 40 at first, 60 at most, 12 at last"/,
    );
  });

  it('is there without any reading', () => {
    const chart = draw([]);
    assert.match(chart, /aria-label="Open connections: no reading yet"/);
    assert.doesNotMatch(chart, /NaN|undefined|Infinity|class="line"/);
  });

  it('ends its axis at a number whose half is whole', () => {
    for (const [open, levels] of [
      [0, ['2', '1', '0']],
      [3, ['4', '2', '0']],
      [12, ['20', '10', '0']],
      [999, ['1000', '500', '0']],
      [1_000, ['1000', '500', '0']],
    ] as const) {
      const chart = draw(read([NOW_MS - 5_000, open], [NOW_MS, open]));
      const [, names = ''] = /class="levels"[^>]*>(.*?)<\/p>/.exec(chart) ?? [];
      assert.deepEqual(
        [...names.matchAll(/<span>(\d+)<\/span>/g)].map(([, name]) => name),
        levels,
      );
    }
  });

  it('shadows the time without readings, up to now', () => {
    const spans = read([NOW_MS - 30_000, 5], [NOW_MS - 18_000, 5], [NOW_MS - 12_000, 5]);
    const gaps = [
      ...draw(spans).matchAll(/class="gap" fill="#ddd" x="([\d.]+)" width="([\d.]+)"/g),
    ];
    assert.deepEqual(
      gaps.map(([, x, width]) => [Number(x), Number(width)]),
      [
        [50, 20],
        [80, 20],
      ],
    );
  });

  it('marks where a drain began, where the listeners closed and how it ended', () => {
    const names = (chart: string) =>
      [...chart.matchAll(/<text[^>]*>(.*?)<\/text>/g)].map(([, name]) => name);
    const closed = { phase: 'close' as const, at: new Date(NOW_MS - 20_000).toISOString() };
    assert.deepEqual(names(draw([], { status: makeDrain({ steps: [closed] }) })), [
      'drain begins',
      'listeners closed',
    ]);
    const ended = makeDrain({ phase: 'finish', outcome: 'timeout', durationMs: 25_000 });
    assert.deepEqual(names(draw([], { status: ended })), ['drain begins', 'timeout']);
    assert.deepEqual(names(draw([])), []);
  });

  it('shows all of a drain, however long it has been', () => {
    for (const [startedAt, window] of [
      ['2026-11-24T14:03:00.000Z', '1m'],
      ['2026-11-24T14:00:00.000Z', '5m'],
      ['2026-11-24T13:10:00.000Z', '1h'],
      ['2026-11-20T13:10:00.000Z', '1h'],
      ['not a time', '1m'],
    ]) {
      assert.match(
        draw([], { status: makeDrain({ startedAt: startedAt ?? null }) }),
        new RegExp(`>${window} ago<`),
      );
    }
  });
});
