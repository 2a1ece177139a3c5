import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createCallTally } from '../../src/manager/metrics/call-tally.js';

/** What is not 0, as text. */
function counted(tally: ReturnType<typeof createCallTally>): string[] {
  return tally
    .samples()
    .filter(({ value }) => value !== 0)
    .map(({ name, labels, value }) => `${name} ${Object.values(labels).join(' ')} ${value}`);
}

describe('createCallTally', () => {
  it('counts calls, their seconds and their errors by call', () => {
    const tally = createCallTally();
    tally.noteAdminCall({ path: '/ready', tookMs: 250 });
    tally.noteAdminCall({ path: '/ready', tookMs: 5_000, error: 'admin-timeout' });
    tally.noteAdminCall({ path: '/stats', tookMs: 10 });
    assert.deepEqual(counted(tally), [
      'pm2_envoy_admin_calls_total /ready 2',
      'pm2_envoy_admin_calls_total /stats 1',
      'pm2_envoy_admin_call_seconds_total /ready 5.25',
      'pm2_envoy_admin_call_seconds_total /stats 0.01',
      'pm2_envoy_admin_errors_total /ready admin-timeout 1',
    ]);
  });

  it('counts refusals by what spoke against them', () => {
    const tally = createCallTally();
    for (const kind of ['proxy', 'other-host', 'proxy'] as const) tally.noteRefusal(kind);
    assert.deepEqual(counted(tally), [
      'pm2_envoy_refused_requests_total other-host 1',
      'pm2_envoy_refused_requests_total proxy 2',
    ]);
  });

  it('shows everything that it can count as 0 from the start', () => {
    const before = createCallTally().samples();
    assert.equal(before.length, 7 + 7 + 7 * 5 + 4);
    assert.ok(before.every(({ value }) => value === 0));
  });
});
