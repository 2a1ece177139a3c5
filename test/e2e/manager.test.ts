import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createAdminClient } from '../../src/admin/client.js';
import { holdTcp } from '../support/clients.js';
import { statusOf, withPm2 } from '../support/pm2.js';
import { eventually, letPass, patiently } from '../support/wait.js';

describe('the manager under pm2', { concurrency: 2 }, () => {
  for (const command of ['restart', 'reload', 'stop']) {
    it(`leaves Envoy's health alone on pm2 ${command} envoy-manager`, () =>
      withPm2({}, async (pm2) => {
        const [generation] = pm2.generations();
        const admin = createAdminClient({ kind: 'unix', path: generation?.adminSocket ?? '' });
        const states = new Set<string>();
        let over = false;
        const watch = (async () => {
          while (!over) states.add(await admin.state());
        })();
        const before = await pm2.pidOf('envoy-manager');
        await pm2.pm2(command, 'envoy-manager');
        if (command !== 'stop') {
          await pm2.untilReady();
          assert.notEqual(await pm2.pidOf('envoy-manager'), before);
        }
        over = true;
        await watch;
        admin.close();
        assert.deepEqual([...states], ['LIVE']);
        assert.equal(pm2.generations()[0]?.number, generation?.number);
      }));
  }

  it('killed -9 in the middle of a drain, joins it when it is back, with the same deadline', () =>
    withPm2({}, async (pm2) => {
      const held = await holdTcp(pm2.ports.tcp);
      const first = pm2.http('POST', '/shutdown').catch(() => undefined);
      const before = await eventually('the drain to wait', async () => {
        const now = await statusOf(pm2);
        return now.phase === 'wait' && now;
      });
      const pid = await pm2.pidOf('envoy-manager');
      process.kill(pid, 'SIGKILL');
      await first;
      const after = await patiently('the manager to be back', async () => {
        const now = await statusOf(pm2);
        return now.phase === 'wait' && (await pm2.pidOf('envoy-manager')) !== pid && now;
      });
      assert.equal(after.startedAt, before.startedAt);
      const shift = Date.parse(after.deadline) - Date.parse(before.deadline);
      assert.ok(Math.abs(shift) < 200, `the deadline moved by ${shift} ms`);
      const second = pm2.http('POST', '/shutdown');
      held.close();
      const { status: code, body } = await second;
      assert.deepEqual([code, JSON.parse(body).startedAt], [200, before.startedAt]);
    }));

  for (const isLate of [false, true]) {
    const who = isLate ? 'a late runner' : 'the runner';
    it(`stays for the drain that ${who} begins as pm2 stops everything, and answers its callers`, () =>
      withPm2({}, async (pm2) => {
        const held = await holdTcp(pm2.ports.tcp);
        const runner = await pm2.pidOf('envoy');
        if (isLate) process.kill(runner, 'SIGSTOP');
        const killed = pm2.pm2('kill');
        if (isLate) {
          await patiently('the manager to be told', () =>
            / leaving/.test(pm2.log('envoy-manager')),
          );
          await letPass(2_000);
          process.kill(runner, 'SIGCONT');
        }
        await patiently('the drain to wait', async () => (await statusOf(pm2)).phase === 'wait');
        const caller = pm2.http('POST', '/shutdown');
        // The manager has taken the caller's connection once it answers a later one.
        assert.equal((await pm2.http('GET', '/healthz')).status, 200);
        held.close();
        assert.equal((await caller).status, 200);
        await killed;
      }));
  }

  it('says in /healthz when Envoy has been lost for longer than envoy-lost-after', () =>
    withPm2({ 'envoy-lost-after': '300ms' }, async (pm2) => {
      await pm2.pm2('stop', 'envoy');
      // Stopping drained it, so this manager knows why Envoy is gone; a new one does not.
      await pm2.pm2('restart', 'envoy-manager');
      const { body } = await eventually('/healthz to fail', async () => {
        const reply = await pm2.http('GET', '/healthz');
        return reply.status === 503 && reply;
      });
      assert.equal(JSON.parse(body).error.code, 'envoy-lost');
      await pm2.pm2('start', 'envoy');
      await eventually(
        '/healthz to be well',
        async () => (await pm2.http('GET', '/healthz')).status === 200,
      );
    }));
});
