import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { describeResult } from '../../src/cli/commands/shutdown.js';
import { makeResult } from './fakes.js';
import { draining, openOn } from './statuses.js';

const GONE = { outcome: 'envoy-gone', durationMs: 3_000, connectionsLeft: 0 } as const;
const CUT = 'any that was still open when Envoy ended was cut';

describe('describeResult', () => {
  it('says what was open at the last look where Envoy ended in the middle', () => {
    const gone = makeResult({ ...GONE, connectionsAtStart: 5 });
    const seen = (open: number) =>
      draining('wait', 72_000, { connections: openOn({ '0.0.0.0_10000': open }) });
    const plain = 'envoy-gone after 3s, 0 connections left';
    assert.equal(
      describeResult(gone, seen(1)),
      `${plain}; 1 connection was open at the last look, and ${CUT}`,
    );
    assert.equal(
      describeResult(gone, seen(2)),
      `${plain}; 2 connections were open at the last look, and ${CUT}`,
    );
    assert.equal(describeResult(gone, seen(0)), plain);
  });

  it('says what was open when the drain began, where no look has come of it', () => {
    const plain = 'envoy-gone after 3s, 0 connections left';
    const said = (connectionsAtStart: number | null, connections?: null) =>
      describeResult(
        makeResult({ ...GONE, connectionsAtStart }),
        connections === null ? draining('wait', 72_000, { connections }) : undefined,
      );
    const wanted = `${plain}; 2 connections were open when the drain began, and ${CUT}`;
    assert.deepEqual([said(2), said(2, null)], [wanted, wanted]);
    assert.deepEqual([said(0), said(null)], [plain, plain]);
  });

  it('says no more of a drain that has ended otherwise', () => {
    const drained = makeResult({ durationMs: 3_000, connectionsAtStart: 2, connectionsLeft: 0 });
    assert.equal(describeResult(drained, undefined), 'drained after 3s, 0 connections left');
  });
});
