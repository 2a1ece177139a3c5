import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type ErrorCode, Pm2EnvoyError } from '../../src/errors.js';
import { EXIT, exitCodeOf } from '../../src/exit-codes.js';

describe('EXIT', () => {
  it('has the documented codes', () => {
    const { stoppedBeforeLive: _, ...ofCommands } = EXIT;
    assert.deepEqual(ofCommands, {
      done: 0,
      unexpected: 1,
      usage: 2,
      timeout: 3,
      cancelled: 4,
      unreachable: 5,
      refused: 77,
      configuration: 78,
      interrupted: 130,
    });
  });

  it('uses no code twice', () => {
    const codes: number[] = Object.values(EXIT);
    assert.equal(new Set(codes).size, codes.length);
  });
});

describe('exitCodeOf', () => {
  const codes: readonly [ErrorCode, number][] = [
    ['config-invalid', 78],
    ['bootstrap-invalid', 78],
    ['plugin-invalid', 78],
    ['plugin-timeout', 1],
    ['manager-refused', 77],
    ['manager-unreachable', 5],
    ['pm2-unreachable', 5],
    ['admin-gone', 5],
    ['admin-timeout', 5],
    ['manager-answer', 1],
    ['envoy-install-failed', 1],
    ['redeploy-failed', 1],
  ];
  for (const [code, exitCode] of codes) {
    it(`ends with ${exitCode} for ${code}`, () => {
      assert.equal(exitCodeOf(new Pm2EnvoyError(code, 'x')), exitCode);
    });
  }

  it('ends with 1 for anything that is no error of ours', () => {
    const lookalike = Object.assign(new Error('x'), { code: 'config-invalid' });
    for (const thrown of [lookalike, new TypeError('x'), 'config-invalid', undefined, null, 78]) {
      assert.equal(exitCodeOf(thrown), 1);
    }
  });

  it('goes by the error itself, not by its cause', () => {
    const cause = new Pm2EnvoyError('config-invalid', 'x');
    assert.equal(exitCodeOf(new Error('y', { cause })), 1);
    assert.equal(exitCodeOf(new Pm2EnvoyError('manager-refused', 'y', { cause })), 77);
  });
});
