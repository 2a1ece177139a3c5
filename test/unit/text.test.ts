import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { describe, it } from 'node:test';
import { closest, shellWord } from '../../src/text.js';

describe('closest', () => {
  const keys = ['check-delay', 'check-interval', 'check-interval-min', 'plugins', 'run-dir'];

  it('finds the word that was mistyped', () => {
    assert.equal(closest('chek-delay', keys), 'check-delay');
    assert.equal(closest('check-dealy', keys), 'check-delay');
    assert.equal(closest('checkinterval', keys), 'check-interval');
    assert.equal(closest('plugin', keys), 'plugins');
    assert.equal(closest('run-dirs', keys), 'run-dir');
  });

  it('prefers the candidate with the fewest edits, wherever it stands', () => {
    assert.equal(closest('check-intervals', keys), 'check-interval');
    assert.equal(closest('check-intervals', [...keys].reverse()), 'check-interval');
    assert.equal(closest('check-interval-mi', keys), 'check-interval-min');
  });

  it('takes a word that is exactly a candidate', () => {
    assert.equal(closest('run-dir', keys), 'run-dir');
  });

  it('suggests nothing for a word that is far from all', () => {
    assert.equal(closest('listeners', keys), undefined);
    assert.equal(closest('check-', keys), undefined);
    assert.equal(closest('checkyyyyinterval', keys), undefined);
  });

  it('does not turn a short word into an unrelated short one', () => {
    assert.equal(closest('ab', ['xy', 'abcd']), undefined);
    assert.equal(closest('a', ['bc']), undefined);
  });

  it('suggests nothing for an empty word, and nothing from no candidates', () => {
    assert.equal(closest('', keys), undefined);
    assert.equal(closest('check-delay', []), undefined);
  });
});

describe('shellWord', () => {
  for (const text of ['/srv/edge/.pm2', '/home/a user/.pm2', "it's", '$HOME', 'a;b', '']) {
    it(`is what a shell reads as one word: ${text}`, () => {
      const script = `printf '<%s>' ${shellWord(text)}`;
      assert.equal(execFileSync('sh', ['-c', script], { encoding: 'utf8' }), `<${text}>`);
    });
  }

  it('leaves a plain path as it is', () => {
    assert.equal(shellWord('/srv/edge-1/.pm2'), '/srv/edge-1/.pm2');
  });
});
