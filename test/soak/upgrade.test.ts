import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { holdTcp, request } from '../support/clients.js';
import { prepareReplaced } from '../support/earlier-version.js';
import { preparePm2, statusOf, type TestPm2 } from '../support/pm2.js';
import { eventually } from '../support/wait.js';

const PATIENCE_MS = 60_000;
const soon = <T>(
  what: string,
  check: () => T | undefined | false | Promise<T | undefined | false>,
) => eventually(what, check, PATIENCE_MS);

type Version = 'earlier' | 'this';
type App = 'envoy' | 'envoy-manager';

/** Has one app run in a version, and leaves the other alone. */
async function run(pm2: TestPm2, app: App): Promise<void> {
  const before = await pm2.pidOf(app);
  await pm2.pm2('restart', app);
  await soon(`another ${app}`, async () => ![0, before].includes(await pm2.pidOf(app)));
  await pm2.untilReady();
  await soon('one generation', () => pm2.generations().length === 1);
}

describe('manager and runner of two versions in one run directory', () => {
  it('drain together: nothing is cut, and no one says drained before the connection has ended', async () => {
    const pm2 = await preparePm2();
    try {
      const replaced = prepareReplaced(pm2.folder);
      replaced.become('earlier');
      await pm2.pm2('start', replaced.ecosystem);
      await pm2.untilReady();
      const versions: readonly (readonly [Version, Version])[] = [
        ['earlier', 'this'],
        ['this', 'this'],
        ['this', 'earlier'],
      ];
      let [manager, runner]: Version[] = ['earlier', 'earlier'];
      for (const [ofManager, ofRunner] of versions) {
        if (manager !== ofManager) {
          replaced.become(ofManager);
          await run(pm2, 'envoy-manager');
        }
        if (runner !== ofRunner) {
          replaced.become(ofRunner);
          await run(pm2, 'envoy');
        }
        [manager, runner] = [ofManager, ofRunner];
        await drainAndStop(pm2, `manager ${manager}, runner ${runner}`);
        await pm2.pm2('start', 'envoy');
        await pm2.untilReady();
        assert.equal((await request(pm2.ports.http)).status, 200);
      }
    } finally {
      await pm2.stop();
    }
  });

  it('hand a drain on: the next version’s manager and runner end what the earlier ones have begun', async () => {
    const pm2 = await preparePm2();
    try {
      const replaced = prepareReplaced(pm2.folder);
      replaced.become('earlier');
      await pm2.pm2('start', replaced.ecosystem);
      await pm2.untilReady();
      const held = await holdTcp(pm2.ports.tcp);
      const lost = pm2.http('POST', '/shutdown').catch(() => undefined);
      await soon('the drain to wait', async () => (await statusOf(pm2)).phase === 'wait');
      const { startedAt, deadline } = await statusOf(pm2);
      replaced.become('this');
      process.kill(await pm2.pidOf('envoy-manager'), 'SIGKILL');
      await lost;
      const status = await soon('the next manager', () => statusOf(pm2));
      assert.equal(status.startedAt, startedAt);
      const movedMs = Math.abs(Date.parse(status.deadline) - Date.parse(deadline));
      assert.ok(movedMs < 1_000, `the deadline has moved by ${movedMs} ms`);
      const caller = pm2.http('POST', '/shutdown');
      const stopping = pm2.pm2('stop', 'envoy');
      await held.echo('still here');
      held.close();
      assert.equal(JSON.parse((await caller).body).outcome, 'drained');
      await stopping;
      await soon('Envoy to end', () => pm2.generations().length === 0);
    } finally {
      await pm2.stop();
    }
  });
});

/** preStop, and a stop in the middle of it. */
async function drainAndStop(pm2: TestPm2, which: string): Promise<void> {
  const held = await holdTcp(pm2.ports.tcp);
  const answers: { status: number; body: string }[] = [];
  const caller = pm2.http('POST', '/shutdown').then((reply) => answers.push(reply));
  await soon('the drain to wait', async () => (await statusOf(pm2)).phase === 'wait');
  const stopping = pm2.pm2('stop', 'envoy');
  await soon('the runner to hear of it', () => /SIGINT: stopping/.test(pm2.log('envoy')));
  await held.echo('still here');
  assert.equal(answers.length, 0, which);
  held.close();
  await caller;
  assert.equal(answers[0]?.status, 200, which);
  assert.match(answers[0]?.body ?? '', /"outcome":"(drained|envoy-gone)"/, which);
  await stopping;
  await soon('Envoy to end', () => pm2.generations().length === 0);
}
