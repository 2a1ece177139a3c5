import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createCounters } from '../../src/manager/metrics/counters.js';

const zeros = [
  { name: 'a_total', labels: { kind: 'x' } },
  { name: 'a_total', labels: { kind: 'y' } },
];

describe('createCounters', () => {
  it('shows zeros from the start, in order', () => {
    assert.deepEqual(createCounters(zeros).samples(), [
      { name: 'a_total', labels: { kind: 'x' }, value: 0 },
      { name: 'a_total', labels: { kind: 'y' }, value: 0 },
    ]);
  });

  it('adds by name and labels', () => {
    const counters = createCounters(zeros);
    counters.add('a_total', { kind: 'y' });
    counters.add('a_total', { kind: 'y' }, 2.5);
    counters.add('b_total');
    assert.deepEqual(
      counters.samples().map(({ value }) => value),
      [0, 3.5, 1],
    );
  });

  it('takes over what was saved', () => {
    const before = createCounters(zeros);
    before.add('a_total', { kind: 'x' }, 4);
    const after = createCounters(zeros);
    after.restore(JSON.parse(JSON.stringify(before.toJson())));
    assert.deepEqual(after.samples(), before.samples());
  });

  it('never falls, and takes nothing over that is no count of its own', () => {
    const counters = createCounters(zeros);
    counters.add('a_total', { kind: 'x' }, 4);
    const before = counters.samples();
    for (const json of [
      undefined,
      null,
      'text',
      [7],
      { 'a_total kind=x': 3, 'a_total kind=y': '9', 'c_total kind=x': 5 },
      { 'a_total kind=x': Number.NaN, 'a_total kind=y': Number.POSITIVE_INFINITY },
    ]) {
      counters.restore(json);
      assert.deepEqual(counters.samples(), before);
    }
  });
});
