import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { holdTcp } from '../support/clients.js';
import { withHeldDelay } from '../support/held-delay.js';
import { statusOf, withPm2 } from '../support/pm2.js';
import { checkCursor, inTerminal } from '../support/terminal.js';
import { eventually, patiently } from '../support/wait.js';

describe('pm2-envoy shutdown through the manager, at Ctrl-C', () => {
  it('says that the drain continues, and it does', () =>
    withHeldDelay(async (pm2, endDelay) => {
      const held = await holdTcp(pm2.ports.tcp);
      for (const [phase, says] of [
        ['delay', /^the drain continues; `pm2-envoy resume` cancels it$/],
        ['wait', /^the drain continues; Envoy’s listeners are closed/],
      ] as const) {
        await inTerminal(pm2, ['shutdown'], async (terminal) => {
          await terminal.shows(new RegExp(`▸ ${phase}`));
          terminal.interrupt();
          assert.equal(await terminal.ended, 130);
          checkCursor(terminal);
          assert.ok(
            terminal.rows().some((row) => says.test(row)),
            terminal.rows().join('\n'),
          );
        });
        if (phase === 'delay') endDelay();
      }
      assert.equal((await statusOf(pm2)).phase, 'wait');
      held.close();
      await eventually('the drain to end', async () => (await statusOf(pm2)).outcome === 'drained');
    }));
});

describe('pm2-envoy shutdown without the manager, at Ctrl-C', { concurrency: 2 }, () => {
  it('in the delay says that no one goes on, and that resume cancels it, which is so', () =>
    withPm2({ 'check-delay': '20s' }, async (pm2) => {
      await pm2.pm2('stop', 'envoy-manager');
      await inTerminal(pm2, ['shutdown'], async (terminal) => {
        await terminal.shows(/▸ delay/);
        terminal.interrupt();
        assert.equal(await terminal.ended, 130);
        const said = terminal.rows().slice(-4).join(' ');
        assert.match(said, /no process continues the drain now, and Envoy stays DRAINING: /);
        assert.match(said, /`pm2-envoy shutdown`, or the manager once it is back, continues it/);
        assert.match(said, /`pm2-envoy resume` cancels it$/);
      });
      const { stdout } = await pm2.cli('status');
      assert.match(stdout, /^phase +delay \(drain of .*\n(.*\n)*envoy +1\.40\.0 DRAINING/m);
      assert.equal((await pm2.cli('resume')).code, 0);
      assert.match((await pm2.cli('status')).stdout, /^phase +idle\nenvoy +1\.40\.0 LIVE/);
    }));

  it('in wait says that it can’t be cancelled; the next shutdown goes on to the same deadline', () =>
    withPm2({ 'drain-timeout': '2m' }, async (pm2) => {
      const held = await holdTcp(pm2.ports.tcp);
      await pm2.pm2('stop', 'envoy-manager');
      await inTerminal(pm2, ['shutdown'], async (terminal) => {
        await terminal.shows(/▸ wait/);
        terminal.interrupt();
        assert.equal(await terminal.ended, 130);
        const said = terminal.rows().slice(-4).join(' ');
        assert.match(said, /listeners are closed, so it can’t be cancelled$/);
      });
      assert.equal((await pm2.cli('resume')).code, 4);
      const before = JSON.parse((await pm2.cli('status', '--json')).stdout);
      assert.equal(before.abandonedDrain, true);
      assert.match((await pm2.cli('status')).stdout, /no process continues it/);
      const again = pm2.cli('shutdown', '--json');
      const { deadline, startedAt } = await patiently('it to go on', async () => {
        const now = JSON.parse((await pm2.cli('status', '--json')).stdout);
        return now.abandonedDrain === false && now;
      });
      assert.equal(startedAt, before.startedAt);
      assert.ok(Math.abs(Date.parse(deadline) - Date.parse(before.deadline)) < 50);
      held.close();
      const { code, stdout } = await again;
      assert.deepEqual([code, JSON.parse(stdout).startedAt], [0, startedAt]);
    }));

  it('leaves a drain that the manager goes on with once it is back', () =>
    withPm2({}, async (pm2) => {
      const held = await holdTcp(pm2.ports.tcp);
      await pm2.pm2('stop', 'envoy-manager');
      await inTerminal(pm2, ['shutdown'], async (terminal) => {
        await terminal.shows(/▸ wait/);
        terminal.interrupt();
        await terminal.ended;
      });
      await pm2.pm2('start', 'envoy-manager');
      await patiently('the manager', async () => (await statusOf(pm2)).phase === 'wait');
      held.close();
      await eventually('the end', async () => (await statusOf(pm2)).outcome === 'drained');
    }));

  it('says that another one leads, where that is so', () =>
    withPm2({ 'check-delay': '1m', 'drain-timeout': '2m' }, async (pm2) => {
      await pm2.pm2('stop', 'envoy-manager');
      const leader = pm2.cli('shutdown');
      await patiently('the delay', async () =>
        /^phase +delay/.test((await pm2.cli('status')).stdout),
      );
      await inTerminal(pm2, ['shutdown'], async (terminal) => {
        await terminal.shows(/▸ delay/);
        terminal.interrupt();
        assert.equal(await terminal.ended, 130);
        assert.equal(terminal.rows().at(-1), 'the drain continues; `pm2-envoy resume` cancels it');
      });
      assert.equal((await pm2.cli('resume')).code, 0);
      assert.equal((await leader).code, 4);
    }));
});
