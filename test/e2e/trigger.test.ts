import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, it } from 'node:test';
import { pathToFileURL } from 'node:url';
import { holdTcp, request } from '../support/clients.js';
import { statusOf, type TestPm2, withPm2 } from '../support/pm2.js';
import { type Answer, appShown, trigger } from '../support/pm2-shows.js';
import { eventually, letPass, patiently } from '../support/wait.js';

const atPhase = (pm2: TestPm2, phase: string) =>
  patiently(`the phase ${phase}`, async () => (await statusOf(pm2)).phase === phase);

async function isOverWithin(answers: Promise<unknown>, ms: number): Promise<boolean> {
  return Promise.race([answers.then(() => true), letPass(ms).then(() => false)]);
}

describe('pm2 trigger envoy-manager', { concurrency: 2 }, () => {
  it('status says the current state, with a parameter as well', () =>
    withPm2({}, async (pm2) => {
      const { actions } = await appShown(pm2, 'envoy-manager');
      assert.deepEqual(actions, ['shutdown', 'resume', 'status']);
      const held = await holdTcp(pm2.ports.tcp);
      await eventually('its count', async () => (await statusOf(pm2)).connections?.open === 1);
      const pid = pm2.generations()[0]?.envoy.pid;
      for (const args of [['status'], ['status', 'please']]) {
        assert.deepEqual(await trigger(pm2, ...args), [
          {
            phase: 'idle',
            openConnections: 1,
            activeRequests: 0,
            envoy: `1.40.0 LIVE, generation 1, pid ${pid}`,
          },
        ]);
      }
      held.close();
    }));

  it('shutdown blocks while a connection is open, and prints what /shutdown answers', () =>
    withPm2({}, async (pm2) => {
      const held = await holdTcp(pm2.ports.tcp);
      const answers = trigger(pm2, 'shutdown');
      await atPhase(pm2, 'wait');
      await assert.rejects(request(pm2.ports.http), /ECONNREFUSED/);
      assert.equal(await isOverWithin(answers, 1_000), false, 'the connection holds it');
      const others = [trigger(pm2, 'shutdown'), pm2.http('POST', '/shutdown')] as const;
      await held.echo('still here');
      held.close();
      const [answer = {}] = await answers;
      const { outcome, connectionsAtStart, connectionsLeft } = answer;
      assert.deepEqual([outcome, connectionsAtStart, connectionsLeft], ['drained', 1, 0]);
      const [joined, over] = await Promise.all(others);
      assert.deepEqual(joined[0], answer);
      assert.deepEqual(JSON.parse(over.body), answer);
      assert.deepEqual(await trigger(pm2, 'shutdown'), [answer], 'at once, after the drain');
    }));

  it('resume cancels the drain that a shutdown waits for, which says so', () =>
    withPm2({ 'check-delay': '1m', 'drain-timeout': '2m' }, async (pm2) => {
      assert.deepEqual(await trigger(pm2, 'resume'), [{ resumed: false, drain: null }]);
      const waiting = trigger(pm2, 'shutdown');
      await atPhase(pm2, 'delay');
      for (const [answer] of [await trigger(pm2, 'resume'), await waiting]) {
        assert.deepEqual([answer?.resumed, answer?.drain?.outcome], [true, 'cancelled']);
      }
      assert.equal((await statusOf(pm2)).phase, 'idle');
      assert.equal((await pm2.http('GET', '/readyz')).status, 200);

      const again = trigger(pm2, 'shutdown');
      await atPhase(pm2, 'delay');
      assert.equal((await pm2.http('DELETE', '/shutdown')).status, 200);
      assert.equal((await again)[0]?.outcome, 'cancelled');
    }));

  it('resume says what to do once the listeners are closed', () =>
    withPm2({}, async (pm2) => {
      await trigger(pm2, 'shutdown');
      const [{ error } = {}] = await trigger(pm2, 'resume');
      assert.equal(error?.code, 'not-resumable');
      assert.match(
        error?.message ?? '',
        /can't be cancelled; `pm2-envoy redeploy` brings up a new/,
      );
    }));

  it('says that there is no such action, by name and by id', () =>
    withPm2({}, async (pm2) => {
      await assert.rejects(trigger(pm2, 'drain'), /Not any process has received a command/);
      await assert.rejects(
        pm2.pm2('trigger', '1', 'drain'),
        /Action doesn't exist drain for envoy-manager/,
      );
      await assert.rejects(pm2.pm2('trigger', 'envoy', 'shutdown'), /Not any process has received/);
      assert.equal((await statusOf(pm2)).phase, 'idle');
    }));
});

describe('an action under way when the manager leaves', { concurrency: 2 }, () => {
  const leaving: Record<string, (pm2: TestPm2) => Promise<unknown>> = {
    'pm2 stop': (pm2) => pm2.pm2('stop', 'envoy-manager'),
    SIGTERM: async (pm2) => process.kill(await pm2.pidOf('envoy-manager'), 'SIGTERM'),
    'pm2 kill': (pm2) => pm2.pm2('kill'),
  };
  for (const [how, leave] of Object.entries(leaving)) {
    it(`is answered before the manager ends by ${how}`, () =>
      withPm2({}, async (pm2) => {
        const pid = await pm2.pidOf('envoy-manager');
        const held = await holdTcp(pm2.ports.tcp);
        const answers = trigger(pm2, 'shutdown');
        await atPhase(pm2, 'wait');
        const left = leave(pm2);
        await patiently('it to leave', () => / leaving"/.test(pm2.log('envoy-manager')));
        assert.equal(await isOverWithin(answers, 700), false, 'it stays for the drain');
        await held.echo('still here');
        held.close();
        const [answer = {}] = await answers;
        assert.deepEqual([answer.outcome, answer['connectionsLeft']], ['drained', 0]);
        await left;
        await eventually('its end', () => !isRunning(pid));
      }));
  }

  it('is waited for where no drain holds the manager', () =>
    withPm2({}, async (pm2) => {
      const envoy = pm2.generations()[0]?.envoy.pid ?? 0;
      const manager = await pm2.pidOf('envoy-manager');
      process.kill(envoy, 'SIGSTOP');
      const answers = trigger(pm2, 'resume');
      await patiently('it', () => pm2.log('envoy-manager').includes('pm2 trigger: resume'));
      // As `pm2 stop` does, but soon: Envoy is not asked for ever.
      process.kill(manager, 'SIGINT');
      await eventually('it to leave', () => / leaving"/.test(pm2.log('envoy-manager')));
      assert.equal(await isOverWithin(answers, 1_500), false);
      process.kill(envoy, 'SIGCONT');
      assert.deepEqual(await answers, [{ resumed: false, drain: null }]);
      await eventually('its end', () => !isRunning(manager));
    }));
});

describe('an app with shutdown_with_message', () => {
  it('tells pm2’s message shutdown from the action of that name', () =>
    withPm2(
      {},
      async (pm2) => {
        await pm2.pm2('start', messagingEcosystem(pm2));
        await pm2.untilReady();
        await pm2.pm2('restart', 'envoy-manager');
        await pm2.untilReady();
        await pm2.pm2('stop', 'envoy-manager');
        assert.equal((await request(pm2.ports.http)).status, 200, 'that is no drain');
        await pm2.pm2('start', 'envoy-manager');
        await pm2.untilReady();
        const [answer]: Answer[] = await trigger(pm2, 'shutdown');
        assert.equal(answer?.outcome, 'drained');
        assert.equal((await statusOf(pm2)).outcome, 'drained', 'the manager is still there');
        await pm2.pm2('stop', 'all');
      },
      false,
    ));
});

/** The ecosystem, with a manager that pm2 stops by a message instead of a signal. */
function messagingEcosystem({ folder }: TestPm2): string {
  const file = join(folder, 'messaging.config.mjs');
  const index = pathToFileURL(resolve(import.meta.dirname, '../../dist/index.js'));
  writeFileSync(
    file,
    `import { envoyApps } from '${index}';
export const apps = envoyApps({ cwd: import.meta.dirname }).map((app) =>
  app.name === 'envoy-manager' ? { ...app, shutdown_with_message: true } : app,
);
`,
  );
  return file;
}

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}
