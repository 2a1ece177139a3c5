import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { isAlive } from '../../src/host/process-identity.js';
import { holdRequest, holdTcp, request } from '../support/clients.js';
import { statusOf, withPm2 } from '../support/pm2.js';
import { appShown } from '../support/pm2-shows.js';
import { eventually, letPass, patiently } from '../support/wait.js';

describe('an Envoy that fails', { concurrency: 2 }, () => {
  it('crashed in service: the runner says why and exits non-zero, pm2 brings up another', () =>
    withPm2({}, async (pm2) => {
      const [crashed] = pm2.generations();
      assert.ok(crashed);
      process.kill(crashed.envoy.pid, 'SIGKILL');
      await patiently('the runner to end', () => !isAlive(crashed.runner));
      await pm2.untilReady();
      assert.equal((await request(pm2.ports.http)).status, 200);
      assert.match(pm2.log('envoy'), /Envoy ended by SIGKILL by itself: generation 1 is gone/);
      assert.match(pm2.ownLog(), /App \[envoy:0\] exited with code \[1\]/);
    }));

  it('killed in the middle of a drain: envoy-gone, immediately', () =>
    withPm2({}, async (pm2) => {
      const held = await holdTcp(pm2.ports.tcp);
      const answer = pm2.http('POST', '/shutdown');
      await eventually('the drain to wait', async () => (await statusOf(pm2)).phase === 'wait');
      process.kill(pm2.generations()[0]?.envoy.pid ?? 0, 'SIGKILL');
      const { status: code, body } = await answer;
      held.close();
      assert.deepEqual([code, JSON.parse(body).outcome], [200, 'envoy-gone']);
      assert.ok(JSON.parse(body).durationMs < 20_000);
    }));

  it('killed in the middle of a drain: the command line says what was open', () =>
    withPm2({}, async (pm2) => {
      const held = await holdTcp(pm2.ports.tcp);
      const command = pm2.cli('shutdown');
      await eventually('the drain to wait', async () => (await statusOf(pm2)).phase === 'wait');
      process.kill(pm2.generations()[0]?.envoy.pid ?? 0, 'SIGKILL');
      const { code, stdout } = await command;
      held.close();
      assert.equal(code, 0);
      assert.match(
        stdout,
        /^envoy-gone after .*, 0 connections left; 1 connection was open (at the last look|when the drain began)/m,
      );
    }));

  it('hung before a drain: admin-unreachable within drain-timeout, from HTTP and the command line', () =>
    withPm2({ 'drain-timeout': '3s' }, async (pm2) => {
      const pid = pm2.generations()[0]?.envoy.pid ?? 0;
      process.kill(pid, 'SIGSTOP');
      const [http, cli] = await Promise.all([
        pm2.http('POST', '/shutdown'),
        pm2.cli('shutdown', '--json'),
      ]);
      const [byHttp, byCli] = [JSON.parse(http.body), JSON.parse(cli.stdout)];
      assert.deepEqual([http.status, byHttp.outcome], [502, 'admin-unreachable']);
      assert.deepEqual([cli.code, byCli.outcome], [5, 'admin-unreachable']);
      for (const { durationMs } of [byHttp, byCli])
        assert.ok(durationMs < 8_000, `it took ${durationMs} ms`);
      await pm2.pm2('stop', 'envoy');
      assert.equal(pm2.generations().length, 0, 'a hung Envoy is ended too');
    }));

  it('hung for a while in a drain: the drain continues when it answers again', () =>
    withPm2({}, async (pm2) => {
      const held = await holdTcp(pm2.ports.tcp);
      const pid = pm2.generations()[0]?.envoy.pid ?? 0;
      const answer = pm2.http('POST', '/shutdown');
      await eventually('the drain to wait', async () => (await statusOf(pm2)).phase === 'wait');
      process.kill(pid, 'SIGSTOP');
      held.close();
      await eventually('a failed call', async () => (await statusOf(pm2)).lastError !== null);
      process.kill(pid, 'SIGCONT');
      assert.equal(JSON.parse((await answer).body).outcome, 'drained');
    }));

  it('never started: /shutdown says envoy-gone', () =>
    withPm2({}, async (pm2) => {
      await pm2.pm2('delete', 'envoy');
      await pm2.pm2('restart', 'envoy-manager');
      const { status: code, body } = await patiently('the manager', () =>
        pm2.http('POST', '/shutdown'),
      );
      assert.deepEqual([code, JSON.parse(body).outcome], [200, 'envoy-gone']);
    }));
});

describe('a runner or daemon that is killed', { concurrency: 2 }, () => {
  it('runner killed -9: Envoy keeps serving, the next runner hands over from it, nothing is cut', () =>
    withPm2({}, async (pm2) => {
      const [orphan] = pm2.generations();
      assert.ok(orphan);
      const held = await holdTcp(pm2.ports.tcp);
      const slow = await holdRequest(pm2.ports.http);
      process.kill(orphan.runner.pid, 'SIGKILL');
      await patiently('a second generation', () =>
        pm2.generations().some(({ number, ready }) => number > orphan.number && ready),
      );
      assert.equal((await slow.finish()).body, 'came whole');
      await held.echo('still here');
      held.close();
      await patiently('the orphan to end', () => !isAlive(orphan.envoy));
      assert.equal(pm2.generations().length, 1);
      assert.equal((await request(pm2.ports.http)).status, 200);
    }));

  it('runner late to hear of its first restart: nothing is drained, nothing is cut', () =>
    withPm2({}, async (pm2) => {
      const [old] = pm2.generations();
      assert.ok(old);
      const held = await holdTcp(pm2.ports.tcp);
      process.kill(old.runner.pid, 'SIGSTOP');
      const restarting = pm2.pm2('restart', 'envoy');
      await patiently(
        'pm2 to have told it',
        async () => (await appShown(pm2, 'envoy')).status === 'stopping',
      );
      await letPass(500);
      process.kill(old.runner.pid, 'SIGCONT');
      await restarting;
      await held.echo('still here');
      held.close();
      await patiently('the old Envoy to end', () => !isAlive(old.envoy));
      assert.equal((await request(pm2.ports.http)).status, 200);
      assert.doesNotMatch(pm2.log('envoy'), /shutdown: /);
    }));

  it('daemon killed -9: everything keeps serving; the next pm2 start takes over, nothing is cut', () =>
    withPm2({}, async (pm2) => {
      const [orphan] = pm2.generations();
      assert.ok(orphan);
      const held = await holdTcp(pm2.ports.tcp);
      await pm2.killDaemon();
      await patiently('the runner to notice', () => pm2.generations()[0]?.orphaned);
      assert.equal((await request(pm2.ports.http)).status, 200);
      await pm2.start();
      await patiently('a second generation', () =>
        pm2.generations().some(({ number, ready }) => number > orphan.number && ready),
      );
      await held.echo('still here');
      held.close();
      await patiently('the orphan to end', () => !isAlive(orphan.envoy));
      await patiently('its runner to end', () => !isAlive(orphan.runner));
      assert.equal((await request(pm2.ports.http)).status, 200);
    }));

  it('with no manager and no runner the command line drains by itself', () =>
    withPm2({}, async (pm2) => {
      const [orphan] = pm2.generations();
      assert.ok(orphan);
      await pm2.pm2('stop', 'envoy-manager');
      const { code, stdout, stderr } = await pm2.cli('shutdown', '--json');
      assert.deepEqual([code, JSON.parse(stdout).outcome], [0, 'drained']);
      assert.match(stderr, /draining Envoy directly/);
      await assert.rejects(request(pm2.ports.http), /ECONNREFUSED/);
      await pm2.pm2('stop', 'envoy');
      assert.equal(isAlive(orphan.envoy), false, 'the runner joins the drain that has ended');
    }));
});
