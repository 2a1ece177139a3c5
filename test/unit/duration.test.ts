import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { formatDuration, LONGEST_MS, parseDuration } from '../../src/config/duration.js';

describe('parseDuration', () => {
  const readable: readonly [string, number][] = [
    ['5s', 5_000],
    ['1m30s', 90_000],
    ['500ms', 500],
    ['1.5h', 5_400_000],
    ['.5s', 500],
    ['1.s', 1_000],
    ['0s', 0],
    ['0ms', 0],
    ['5m', 300_000],
    ['5ms', 5],
    ['1m5ms', 60_005],
    ['1h2m3s4ms', 3_723_004],
    ['250us', 0.25],
    ['250µs', 0.25],
    ['1000000ns', 1],
    ['90m', 5_400_000],
    ['1s1s', 2_000],
    ['007s', 7_000],
    ['  5s\n', 5_000],
    ['596h', 2_145_600_000],
  ];
  for (const [text, ms] of readable) {
    it(`reads ${JSON.stringify(text)} as ${ms} ms`, () => {
      assert.ok(Math.abs(parseDuration(text) - ms) < 1e-6, String(parseDuration(text)));
    });
  }

  it('adds decimal fractions up to whole milliseconds', () => {
    assert.equal(parseDuration('1.001s'), 1_001);
    assert.equal(parseDuration('0.1s0.2s'), 300);
  });

  const refused: readonly unknown[] = [
    '',
    ' ',
    's',
    '.s',
    '-5s',
    '5',
    '5 s',
    '5S',
    '5sec',
    '5s!',
    '!5s',
    '5s 30',
    '5s30',
    '1,5s',
    '1.2.3s',
    '1e3s',
    '1d',
    '٥s',
    'five seconds',
    '5s\n5',
    null,
    undefined,
    true,
    {},
    ['5s'],
    5,
    0,
    -5,
    Number.NaN,
  ];
  for (const value of refused) {
    it(`refuses ${JSON.stringify(value)} and shows how a duration is written`, () => {
      assert.throws(() => parseDuration(value), /must be a duration with a unit.*1m30s/);
    });
  }

  for (const bare of [5, '5', ' 5 ', '0', '5.', '.5', 0.5]) {
    it(`hints at seconds for the bare number ${JSON.stringify(bare)}`, () => {
      assert.throws(
        () => parseDuration(bare),
        new RegExp(`did you mean "${String(bare).trim()}s"\\?`),
      );
    });
  }

  it('gives no hint where no number was meant', () => {
    for (const value of ['soon', '5sec', '', null, {}, -5, Number.NaN, 1e21, 1e-7]) {
      assert.throws(
        () => parseDuration(value),
        (error: Error) => !error.message.includes('did you mean'),
      );
    }
  });

  it('refuses what is longer than a timer can wait', () => {
    assert.equal(parseDuration(`${LONGEST_MS}ms`), LONGEST_MS);
    assert.throws(() => parseDuration(`${LONGEST_MS + 1}ms`), /at most 596h/);
    assert.throws(() => parseDuration(`${'9'.repeat(400)}h`), /at most 596h/);
  });

  it('does not carry anything over from one call to the next', () => {
    assert.throws(() => parseDuration('1m30x'));
    assert.equal(parseDuration('5s'), 5_000);
    assert.throws(() => parseDuration('5sx'));
    assert.equal(parseDuration('1m30s'), 90_000);
  });
});

describe('formatDuration', () => {
  const written: readonly [number, string][] = [
    [0, '0s'],
    [1, '1ms'],
    [500, '500ms'],
    [999, '999ms'],
    [1_000, '1s'],
    [1_500, '1.5s'],
    [60_000, '1m'],
    [90_000, '1m30s'],
    [3_600_000, '1h'],
    [3_601_001, '1h1.001s'],
    [5_400_000, '1h30m'],
  ];
  for (const [ms, text] of written) {
    it(`writes ${ms} ms as ${text}`, () => {
      assert.equal(formatDuration(ms), text);
    });
  }

  it('writes what parseDuration reads as the same time', () => {
    const times = [0, 0.25, 1, 59, 999, 1_000, 1_001, 59_999, 60_001, 3_599_999, 86_399_999];
    for (const ms of [...times, LONGEST_MS]) {
      const text = formatDuration(ms);
      assert.ok(Math.abs(parseDuration(text) - ms) < 1e-6, `${ms} is written as ${text}`);
    }
  });
});
