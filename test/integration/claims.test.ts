import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { claimRounds } from '../support/claims.js';

describe('two to eight processes that claim the drain at the same instant', () => {
  it('have one leader, one record and one decision, in each of 500 rounds', async () => {
    const rounds = await claimRounds(500);
    const wrong = rounds.filter(
      ({ leaders, records, decisions }) => leaders !== 1 || records !== 1 || decisions !== 1,
    );
    assert.deepEqual(wrong, []);
  });
});
