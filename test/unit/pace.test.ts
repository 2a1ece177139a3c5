import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createPace, type PacePoint } from '../../src/status/pace.js';

function paceOf(points: readonly [atMs: number, open: number][]) {
  const pace = createPace();
  for (const [atMs, open] of points) pace.note({ atMs, open });
  return pace;
}

describe('createPace', () => {
  const cases: { name: string; points: [number, number][]; left: number | undefined }[] = [
    { name: 'knows nothing before the first point', points: [], left: undefined },
    { name: 'can not tell from one point', points: [[0, 10]], left: undefined },
    {
      name: 'goes on as it went: 5 of 10 ended in 5 s, so 5 s more',
      points: [
        [0, 10],
        [5_000, 5],
      ],
      left: 5_000,
    },
    {
      name: 'has no time left when nothing is open',
      points: [
        [0, 10],
        [5_000, 0],
      ],
      left: 0,
    },
    {
      name: 'can not tell when none has ended',
      points: [
        [0, 10],
        [5_000, 10],
      ],
      left: undefined,
    },
    {
      name: 'counts from the latest peak, not from before connections came in',
      points: [
        [0, 2],
        [1_000, 10],
        [5_000, 6],
      ],
      left: 6_000,
    },
    {
      name: 'forgets what is older than half a minute',
      points: [
        [0, 1_000],
        [40_000, 10],
        [50_000, 5],
      ],
      left: 10_000,
    },
    {
      name: 'calls less than a second chance',
      points: [
        [0, 10],
        [900, 1],
      ],
      left: undefined,
    },
  ];
  for (const { name, points, left } of cases) {
    it(name, () => assert.equal(paceOf(points).msUntil(0), left));
  }

  it('counts down to the threshold only', () => {
    const pace = paceOf([
      [0, 10],
      [5_000, 5],
    ]);
    assert.equal(pace.msUntil(3), 2_000);
    assert.equal(pace.msUntil(5), 0);
  });

  it('keeps a bounded number of points, the latest', () => {
    const pace = createPace();
    for (let atMs = 0; atMs < 1_000; atMs += 1) pace.note({ atMs, open: 1 });
    const kept: readonly PacePoint[] = pace.points();
    assert.equal(kept.length, 600);
    assert.equal(kept.at(-1)?.atMs, 999);
  });
});
