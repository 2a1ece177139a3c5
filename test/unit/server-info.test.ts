import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseServerInfo } from '../../src/admin/server-info.js';

const reply = {
  version: '1d5f2f1ab8a3dcd2/1.40.0/Clean/RELEASE/BoringSSL',
  state: 'LIVE',
  hot_restart_version: 'disabled',
  uptime_current_epoch: '754s',
  uptime_all_epochs: '999s',
  command_line_options: { concurrency: 4, base_id: '0', drain_time: '600s' },
};

describe('parseServerInfo', () => {
  it('reads version, state, uptime, concurrency and drain time', () => {
    assert.deepEqual(parseServerInfo(reply), {
      version: '1.40.0',
      state: 'LIVE',
      uptimeSeconds: 754,
      concurrency: 4,
      drainTimeMs: 600_000,
    });
  });

  it('reads the uptime of this epoch in whole seconds', () => {
    const uptimeOf = (text: string) =>
      parseServerInfo({ ...reply, uptime_current_epoch: text }).uptimeSeconds;
    assert.equal(uptimeOf('0s'), 0);
    assert.equal(uptimeOf('12.750s'), 12);
    assert.equal(uptimeOf('86400s'), 86_400);
  });

  it('keeps a version that is not made of parts', () => {
    assert.equal(parseServerInfo({ ...reply, version: '1.40.0' }).version, '1.40.0');
  });

  it('does without the command line options', () => {
    const { command_line_options: _, ...rest } = reply;
    const { concurrency, drainTimeMs } = parseServerInfo(rest);
    assert.deepEqual([concurrency, drainTimeMs], [0, undefined]);
  });

  it('passes on a state that it does not know', () => {
    assert.equal(parseServerInfo({ ...reply, state: 'NAPPING' }).state, 'NAPPING');
  });

  const malformed: readonly [string, unknown][] = [
    ['null', null],
    ['a text', 'LIVE'],
    ['a list', []],
    ['an empty object', {}],
    ['a reply without version', { ...reply, version: undefined }],
    ['a reply without state', { ...reply, state: undefined }],
    ['a state that is a number', { ...reply, state: 0 }],
    ['a reply without uptime', { ...reply, uptime_current_epoch: undefined }],
    ['an uptime that is no number', { ...reply, uptime_current_epoch: 'long' }],
  ];
  for (const [what, json] of malformed) {
    it(`refuses ${what}`, () => {
      assert.throws(() => parseServerInfo(json), TypeError);
    });
  }
});
