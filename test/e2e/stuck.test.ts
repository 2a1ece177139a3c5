import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { request } from '../support/clients.js';
import { withPm2 } from '../support/pm2.js';
import { eventually } from '../support/wait.js';

describe('an Envoy that hangs', () => {
  it('is ended after envoy-stuck-after, and another one serves; in a drain it is left alone', () =>
    withPm2({ 'envoy-stuck-after': '4s', 'drain-timeout': '15s' }, async (pm2) => {
      const [before = assert.fail()] = pm2.generations();
      process.kill(before.envoy.pid, 'SIGSTOP');
      await eventually(
        'another Envoy to serve',
        () => pm2.generations()[0]?.number === before.number + 1 && pm2.generations()[0]?.ready,
        60_000,
      );
      await pm2.untilReady();
      assert.equal((await request(pm2.ports.http)).status, 200);
      assert.match(
        pm2.log('envoy'),
        /Envoy has not answered for \S+ \(envoy-stuck-after\): ending it/,
      );

      const [next = assert.fail()] = pm2.generations();
      process.kill(next.envoy.pid, 'SIGSTOP');
      const { status } = await pm2.http('POST', '/shutdown');
      assert.equal(status, 502, 'the drain waits to its deadline');
      assert.equal(pm2.generations()[0]?.envoy.pid, next.envoy.pid);
    }));
});
