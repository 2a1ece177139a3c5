import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { statusOf } from '../../src/manager/http/shutdown.js';
import { isDrainResult } from '../../src/status/manager-client.js';
import { makeResult } from './fakes.js';

describe('statusOf', () => {
  const statuses = {
    drained: 200,
    'envoy-gone': 200,
    cancelled: 409,
    'admin-unreachable': 502,
    timeout: 504,
  } as const;
  for (const outcome of Object.keys(statuses) as (keyof typeof statuses)[]) {
    it(`answers ${outcome} with ${statuses[outcome]}`, () => {
      assert.equal(statusOf(outcome), statuses[outcome]);
    });
  }
});

describe('isDrainResult', () => {
  it('knows the body of /shutdown', () => {
    assert.equal(isDrainResult(makeResult()), true);
    assert.equal(isDrainResult(JSON.parse(JSON.stringify(makeResult()))), true);
  });

  it('does not take an error or another body for one', () => {
    const error = { error: { code: 'refused', message: 'no' } };
    for (const body of [null, undefined, 'drained', 200, [], {}, error, { outcome: 'drained' }]) {
      assert.equal(isDrainResult(body), false);
    }
  });
});
