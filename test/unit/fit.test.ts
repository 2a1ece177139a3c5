import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  clean,
  cutEnd,
  cutMiddle,
  fold,
  foldBeside,
  widthOf,
  wrap,
} from '../../src/cli/terminal/fit.js';

describe('widthOf', () => {
  const WIDTHS: readonly [string, number][] = [
    ['', 0],
    ['listener', 8],
    ['日本', 4],
    ['e\u0301', 1],
    ['🚀', 2],
    ['👨‍👩‍👧‍👦', 2],
    ['👍🏽', 2],
    ['🇩🇪', 2],
    ['1️⃣', 2],
    ['हिन्दी', 4],
    ['█░', 2],
  ];
  for (const [text, width] of WIDTHS) {
    it(`of ${JSON.stringify(text)} is ${width}`, () => assert.equal(widthOf(text), width));
  }
});

describe('clean', () => {
  it('takes out what would steer the terminal', () => {
    assert.equal(clean('a\u001b[31mb\r\nc\u0007d\u202ee', true), 'a [31mb c d e');
  });

  it('leaves ASCII where the terminal has no more', () => {
    assert.equal(clean('Envoy’s … 日本', false), "Envoy's .. ??");
  });
});

describe('cutEnd', () => {
  it('leaves what fits', () => assert.equal(cutEnd('12345', 5), '12345'));
  it('says that something is missing', () => assert.equal(cutEnd('123456', 5), '1234…'));
  it('does so in ASCII', () => assert.equal(cutEnd('123456', 5, false), '123..'));
  it('never cuts a wide character in half', () => assert.equal(cutEnd('日本語', 4), '日…'));
  it('never cuts what is one character to the eye', () => {
    assert.equal(cutEnd('👍🏽👍🏽👍🏽', 5), '👍🏽👍🏽…');
    assert.equal(cutEnd('a👨‍👩‍👧‍👦b', 3), 'a…');
  });
});

describe('cutMiddle', () => {
  it('leaves what fits', () => assert.equal(cutMiddle('12345', 5), '12345'));
  it('keeps both ends', () => {
    assert.equal(cutMiddle('[2001:db8::1]:51234', 12), '[2001:…51234');
    assert.equal(cutMiddle('[2001:db8::1]:51234', 12, false), '[2001..51234');
  });
});

describe('cutEnd and cutMiddle', () => {
  it('give nothing that is wider than it may be', () => {
    for (const text of ['', 'a', 'ab', 'a long listener name', '日本語日本語', '🇩🇪👍🏽a👨‍👩‍👧‍👦']) {
      for (let width = 0; width <= 24; width += 1) {
        for (const unicode of [true, false]) {
          for (const cut of [cutEnd, cutMiddle]) {
            const short = cut(text, width, unicode);
            assert.ok(widthOf(short) <= width, `${JSON.stringify(short)} in ${width}`);
          }
        }
      }
    }
  });
});

describe('wrap', () => {
  it('breaks at spaces, and a word that is too long anywhere', () => {
    assert.deepEqual(wrap('1 open (1 http1)', 8), ['1 open', '(1', 'http1)']);
    assert.deepEqual(wrap('0.0.0.0_10000', 5), ['0.0.0', '.0_10', '000']);
    assert.deepEqual(wrap('🇩🇪🇫🇷👍🏽', 4), ['🇩🇪🇫🇷', '👍🏽']);
  });
});

describe('fold', () => {
  it('breaks at spaces, and leaves paths and commands whole', () => {
    assert.equal(fold('see /a/very/long/path now', 10), 'see\n/a/very/long/path\nnow');
    assert.equal(fold('so `pm2-envoy resume` takes it', 18), 'so\n`pm2-envoy resume`\ntakes it');
    assert.equal(fold('there (`pm2-envoy init` does)', 18), 'there\n(`pm2-envoy init`\ndoes)');
  });
});

describe('foldBeside', () => {
  it('folds a sentence beside its label', () =>
    assert.equal(foldBeside('ok  ', ['one two three'], 12), 'ok  one two\n    three'));
  it('begins a line with each sentence', () =>
    assert.equal(foldBeside('ok  ', ['one', 'two'], 12), 'ok  one\n    two'));
  it('goes on below a label that takes more than half of the width', () =>
    assert.equal(foldBeside('PROBLEM  ', ['one two three'], 12), 'PROBLEM\n  one two\n  three'));
});
