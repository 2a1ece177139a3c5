import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { request } from '../support/clients.js';
import { statusOf, withPm2 } from '../support/pm2.js';
import { eventually, patiently } from '../support/wait.js';

const SETTINGS = { 'envoy-stuck-after': '4s', 'check-delay': '10s', 'drain-timeout': '15s' };

describe('an Envoy that hangs', () => {
  it('is ended after envoy-stuck-after, and another one serves; in a drain it is left alone', () =>
    withPm2(SETTINGS, async (pm2) => {
      const [before = assert.fail()] = pm2.generations();
      process.kill(before.envoy.pid, 'SIGSTOP');
      await patiently('another Envoy to serve', () => {
        const [now] = pm2.generations();
        return now !== undefined && now.number > before.number && now.ready;
      });
      await pm2.untilReady();
      assert.equal((await request(pm2.ports.http)).status, 200);
      await eventually('the reason', () =>
        /Envoy has not answered for \S+ \(envoy-stuck-after\): ending it/.test(pm2.log('envoy')),
      );

      const [next = assert.fail()] = pm2.generations();
      const answer = pm2.http('POST', '/shutdown');
      await eventually('the drain', async () => (await statusOf(pm2)).phase === 'delay');
      process.kill(next.envoy.pid, 'SIGSTOP');
      const { status } = await answer;
      assert.equal(status, 502, 'the drain waits to its deadline');
      assert.equal(pm2.generations()[0]?.envoy.pid, next.envoy.pid);
    }));
});
