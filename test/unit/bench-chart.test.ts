import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { toChart } from '../../bench/chart.js';
import { toLine, toMarkdown } from '../../bench/table.js';

const row = { what: 'seconds', target: '≤ 1', values: [[0.5, 0.4, 0.6], [2]] };
const names = ['ours', 'a < b'];

describe('toChart', () => {
  it('draws medians as bars to one scale, and says them', () => {
    const svg = toChart([row], names);
    const widths = [...svg.matchAll(/<rect [^>]*width="([\d.]+)"/g)].map(([, width]) =>
      Number(width),
    );
    assert.deepEqual(widths, [95, 380]);
    assert.match(svg, /aria-label="seconds: ours 0.5, a &lt; b 2"/);
    assert.match(svg, />a &lt; b<\/text>/);
  });
});

describe('toMarkdown', () => {
  it('has median, least and most, and how many times ours a peer takes', () => {
    assert.equal(toLine(row, 2), '| seconds | 0.5 (0.4 – 0.6) | 2, 4.0 × | ≤ 1 |');
  });

  it('leaves out whom a row does not apply to', () => {
    const own = { ...row, values: [[1_234.5]] };
    assert.equal(
      toMarkdown([own], names),
      '|  | ours | a < b | to reach |\n| --- | --- | --- | --- |\n| seconds | 1235 | – | ≤ 1 |',
    );
  });
});
