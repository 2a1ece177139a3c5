import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { toChart } from '../../bench/chart.js';
import { misses, toLine, toMarkdown } from '../../bench/table.js';

const row = { what: 'seconds', target: '≤ 1', values: [[0.5, 0.4, 0.6], [2]] };
const names = ['ours', 'a < b'];

describe('toChart', () => {
  it('draws medians as bars to one scale, and says them', () => {
    const svg = toChart([{ rows: [row], names }]);
    const widths = [...svg.matchAll(/<rect [^>]*width="([\d.]+)"/g)].map(([, width]) =>
      Number(width),
    );
    assert.deepEqual(widths, [95, 380]);
    assert.match(svg, /aria-label="seconds: ours 0.5, a &lt; b 2"/);
    assert.match(svg, />a &lt; b<\/text>/);
  });

  it('draws rows of other subjects below', () => {
    const memory = { what: 'MiB', target: '–', values: [[3], [2]] };
    const groups = [
      { rows: [row], names },
      { rows: [memory], names: ['ours', 'another'] },
    ];
    assert.match(toChart(groups), /a &lt; b 2; MiB: ours 3, another 2"/);
  });
});

describe('toMarkdown', () => {
  it('has median, least and most, and how many times ours a peer takes', () => {
    assert.equal(toLine(row, 2), '| seconds | 0.5 (0.4 – 0.6) | 2, 4.0 × | ≤ 1 |');
  });

  it('marks a row that misses its target', () => {
    const slow = { ...row, values: [[1.1]] };
    assert.equal(toLine(slow, 1), '| seconds | 1.1 | **missed:** ≤ 1 |');
  });

  it('leaves out whom a row does not apply to', () => {
    const own = { ...row, target: '–', values: [[1_234.5]] };
    assert.equal(
      toMarkdown([own], names),
      '|  | ours | a < b | to reach |\n| --- | --- | --- | --- |\n| seconds | 1235 | – | – |',
    );
  });
});

describe('misses', () => {
  const with_ = (target: string, ...values: number[][]): boolean =>
    misses({ what: 'what', target, values });

  it('compares the median, the worst, and how many times the first peer', () => {
    assert.equal(with_('–', [9]), false);
    assert.equal(with_('≤ 2', [1, 2, 9]), false);
    assert.equal(with_('≤ 2', [1, 3, 9]), true);
    assert.equal(with_('≤ 2, worst ≤ 9', [1, 2, 9]), false);
    assert.equal(with_('≤ 2, worst ≤ 8', [1, 2, 9]), true);
    assert.equal(with_('≤ 1.5 ×', [3], [2], [0]), false);
    assert.equal(with_('≤ 1.5 ×', [3.1], [2], [9]), true);
  });
});
