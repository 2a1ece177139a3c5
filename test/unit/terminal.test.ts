import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { terminalOf } from '../../src/cli/terminal/terminal.js';

const TTY = { isTTY: true, columns: 120, rows: 40 };
const XTERM = { TERM: 'xterm-256color', LANG: 'en_GB.UTF-8' };

describe('terminalOf', () => {
  it('takes the size that the stream says', () => {
    const { width, height } = terminalOf(XTERM, TTY);
    assert.deepEqual([width, height], [120, 40]);
  });

  it('takes 80 by 24 where the stream says nothing, or 0', () => {
    for (const size of [{}, { columns: 0, rows: 0 }, { columns: undefined, rows: undefined }]) {
      const { width, height } = terminalOf(XTERM, { isTTY: true, ...size });
      assert.deepEqual([width, height], [80, 24]);
    }
  });

  const LIVE: readonly [string, NodeJS.ProcessEnv, boolean | undefined, boolean][] = [
    ['a terminal', XTERM, true, true],
    ['a terminal without TERM', {}, true, true],
    ['a pipe', XTERM, undefined, false],
    ['a dumb terminal', { TERM: 'dumb' }, true, false],
    ['a terminal of a CI job', { ...XTERM, CI: 'true' }, true, false],
    ['a terminal with CI=1', { ...XTERM, CI: '1' }, true, false],
    ['a terminal with CI=false', { ...XTERM, CI: 'false' }, true, true],
    ['a terminal with an empty CI', { ...XTERM, CI: '' }, true, true],
  ];
  for (const [what, env, isTTY, live] of LIVE) {
    it(`can ${live ? '' : 'not '}draw over what was written on ${what}`, () =>
      assert.equal(terminalOf(env, { isTTY }).live, live));
  }

  const COLOR: readonly [string, NodeJS.ProcessEnv, boolean | undefined, boolean][] = [
    ['on a terminal', XTERM, true, true],
    ['in a pipe', XTERM, undefined, false],
    ['on a dumb terminal', { TERM: 'dumb' }, true, false],
    ['with NO_COLOR', { ...XTERM, NO_COLOR: '1' }, true, false],
    ['with an empty NO_COLOR', { ...XTERM, NO_COLOR: '' }, true, true],
    ['in a pipe with FORCE_COLOR', { FORCE_COLOR: '1' }, undefined, true],
    ['with FORCE_COLOR=0', { ...XTERM, FORCE_COLOR: '0' }, true, false],
    ['with NO_COLOR and FORCE_COLOR', { NO_COLOR: '1', FORCE_COLOR: '1' }, true, false],
  ];
  for (const [what, env, isTTY, color] of COLOR) {
    it(`shows ${color ? '' : 'no '}colours ${what}`, () =>
      assert.equal(terminalOf(env, { isTTY }).color, color));
  }

  const UNICODE: readonly [NodeJS.ProcessEnv, boolean][] = [
    [{ LANG: 'de_DE.UTF-8' }, true],
    [{ LANG: 'C.utf8' }, true],
    [{ LC_CTYPE: 'UTF-8' }, true],
    [{ LC_ALL: 'C', LANG: 'de_DE.UTF-8' }, false],
    [{ LC_ALL: '', LANG: 'de_DE.UTF-8' }, true],
    [{ LANG: 'C' }, false],
    [{}, false],
  ];
  for (const [env, unicode] of UNICODE) {
    it(`trusts ${JSON.stringify(env)} with ${unicode ? 'more than ' : ''}ASCII`, () =>
      assert.equal(terminalOf(env, TTY).unicode, unicode));
  }
});
