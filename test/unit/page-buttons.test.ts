import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { buttonOf, describeAnswer, questionOf } from '../../src/manager/page/buttons.js';
import type { Status } from '../../src/status/status.js';
import { makeResult } from './fakes.js';
import { makeDrain, makeState, makeStatus } from './page-states.js';

describe('buttonOf', () => {
  const cases: readonly [
    name: string,
    status: Status,
    shutdown: RegExp | true,
    resume: RegExp | true,
  ][] = [
    ['in service', makeStatus(), true, /no drain/],
    ['failing health', makeDrain({ phase: 'fail-health' }), /drain is running/, true],
    ['in the delay', makeDrain({ phase: 'delay' }), /drain is running/, true],
    [
      'closing',
      makeDrain({ phase: 'close' }),
      /drain is running/,
      /too late.*`pm2-envoy redeploy`/,
    ],
    ['waiting', makeDrain(), /drain is running/, /too late.*`pm2-envoy redeploy`/],
    [
      'drained',
      makeDrain({ phase: 'finish', outcome: 'drained' }),
      /`pm2-envoy redeploy`/,
      /`pm2-envoy redeploy`/,
    ],
    ['an orphaned drain', makeStatus({ orphanedDrain: true }), true, true],
    ['no Envoy', makeStatus({ envoy: null }), /no Envoy/, /no drain/],
  ];
  for (const [name, status, shutdown, resume] of cases) {
    it(`says what can be done, or why not: ${name}`, () => {
      const state = makeState(status);
      for (const [command, expected] of [
        ['shutdown', shutdown],
        ['resume', resume],
      ] as const) {
        const { isOff, why } = buttonOf(command, state);
        assert.equal(isOff, expected !== true);
        if (expected !== true) assert.match(why, expected);
        assert.notEqual(why, '');
      }
    });
  }

  it('lets nothing be done without a connection to the manager', () => {
    for (const [link, why] of [
      [{ kind: 'late' }, /no connection/],
      [{ kind: 'lost', reason: '' }, /no connection/],
      // Its log may come before its status.
      [{ kind: 'snapshot' }, /^connecting to the manager$/],
    ] as const) {
      for (const command of ['shutdown', 'resume'] as const) {
        const button = buttonOf(command, makeState({ orphanedDrain: true }, { link }));
        assert.equal(button.isOff, true);
        assert.match(button.why, why);
      }
    }
  });
});

describe('questionOf', () => {
  it('says how many connections are open, as far as that is known', () => {
    assert.match(questionOf(makeState()), /^Open connections: 12\. /);
    assert.match(questionOf(makeState({ connections: null })), /^Open connections: unknown\. /);
  });

  it('says for how long it can be cancelled', () => {
    assert.match(questionOf(makeState()), /You can cancel for 10s; then its listeners close/);
    const { settings } = makeStatus();
    const now = { settings: { ...settings, checkDelayMs: 0 } };
    assert.match(questionOf(makeState(now)), /close immediately: you can’t cancel it/);
  });
});

describe('describeAnswer', () => {
  const error = (message: string) => ({ error: { code: 'x', message } });
  const cases: readonly [status: number, body: unknown, text: RegExp][] = [
    [
      200,
      makeResult({ outcome: 'drained', durationMs: 3_210, connectionsLeft: 0 }),
      /^The drain ended: drained after 3\.2s, 0 connections left\.$/,
    ],
    [504, makeResult({ outcome: 'timeout', connectionsLeft: 1 }), /timeout .* 1 connection left\./],
    [
      504,
      makeResult({ outcome: 'timeout', connectionsLeft: 7 }),
      /timeout .* 7 connections left\. They are cut when Envoy stops\.$/,
    ],
    [
      502,
      makeResult({ outcome: 'admin-unreachable', connectionsLeft: null }),
      /unknown connections left\. See `pm2 logs envoy`/,
    ],
    [409, makeResult({ outcome: 'cancelled' }), /cancelled: Envoy stays in service/],
    [200, { resumed: true, drain: null }, /^Cancelled: Envoy passes/],
    [200, { resumed: false, drain: null }, /no drain to cancel/],
    [
      403,
      error('/shutdown is for this host itself'),
      /^Refused \(403\): \/shutdown is for this host itself\. .*ssh -L/,
    ],
    [
      409,
      error('its listeners are closed: `pm2-envoy redeploy`'),
      /^Refused \(409\): its listeners are closed: `pm2-envoy redeploy`\.$/,
    ],
    [502, error('Envoy does not answer'), /^Refused \(502\): .* See `pm2 logs envoy`/],
    [
      503,
      error('4000 callers wait'),
      /^Refused \(503\): 4000 callers wait\. A drain that is running continues\.$/,
    ],
    [500, undefined, /^Refused \(500\): no reason was given\.$/],
    [418, 'teapot', /^Refused \(418\): no reason was given\.$/],
  ];
  for (const [status, body, text] of cases) {
    it(`says what happened and what to do: ${status} ${JSON.stringify(body)?.slice(0, 40)}`, () => {
      assert.match(describeAnswer({ status, body }), text);
    });
  }
});
