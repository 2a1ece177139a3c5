import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { createAdminClient } from '../../src/admin/client.js';
import { holdTcp, request } from '../support/clients.js';
import { statusOf, type TestPm2, withPm2 } from '../support/pm2.js';
import { eventually, patiently } from '../support/wait.js';

const atPhase = (pm2: TestPm2, phase: string) =>
  patiently(`the phase ${phase}`, async () => (await statusOf(pm2)).phase === phase);

/** Someone else, or a record that was lost. */
async function failHealthBehindOurBack(pm2: TestPm2): Promise<void> {
  const path = pm2.generations()[0]?.adminSocket ?? '';
  const admin = createAdminClient({ kind: 'unix', path });
  await admin.failHealthCheck();
  admin.close();
}

describe('pm2-envoy resume', { concurrency: 2 }, () => {
  it('cancels a drain in its delay: waiters are told, Envoy keeps serving, and can be drained again', () =>
    withPm2({ 'check-delay': '25s' }, async (pm2) => {
      const held = await holdTcp(pm2.ports.tcp);
      // First the one that takes long to start: after the resume it would begin a drain of its own.
      const command = pm2.cli('shutdown');
      await atPhase(pm2, 'delay');
      const caller = pm2.http('POST', '/shutdown');
      assert.equal((await pm2.http('GET', '/readyz')).status, 503);

      const { code, stdout } = await pm2.cli('resume');
      assert.equal(code, 0);
      assert.match(stdout, /cancelled; Envoy is LIVE again/);
      const answer = await caller;
      assert.equal(answer.status, 409);
      assert.equal(JSON.parse(answer.body).outcome, 'cancelled');
      const waiter = await command;
      assert.equal(waiter.code, 4);
      assert.match(waiter.stdout, /^cancelled after/);
      assert.equal((await pm2.http('GET', '/readyz')).status, 200);
      assert.equal((await request(pm2.ports.http)).status, 200);
      await held.echo('still here');
      assert.equal((await statusOf(pm2)).phase, 'idle');

      held.close();
      const again = await pm2.http('POST', '/shutdown');
      assert.equal(JSON.parse(again.body).outcome, 'drained');
      assert.equal((await statusOf(pm2)).outcome, 'drained');
    }));

  it('is refused once the listeners are closed, and says what to do instead', () =>
    withPm2({}, async (pm2) => {
      const held = await holdTcp(pm2.ports.tcp);
      const caller = pm2.http('POST', '/shutdown');
      await atPhase(pm2, 'wait');
      const refused = await pm2.http('DELETE', '/shutdown');
      assert.equal(refused.status, 409);
      assert.equal(JSON.parse(refused.body).error.code, 'not-resumable');
      const { code, stderr } = await pm2.cli('resume');
      assert.equal(code, 4);
      assert.match(stderr, /listeners are closed.*pm2-envoy redeploy/);
      await held.echo('still here');
      held.close();
      assert.equal(JSON.parse((await caller).body).outcome, 'drained');
      assert.equal((await pm2.http('DELETE', '/shutdown')).status, 409);

      await pm2.pm2('reload', 'envoy');
      await pm2.untilReady();
      assert.equal((await request(pm2.ports.http)).status, 200);
    }));

  it('tells no plugin of it when Envoy did not pass its health check', () =>
    withPm2(
      { 'check-delay': '30s', 'drain-timeout': '2m' },
      async (pm2) => {
        const notes = join(pm2.folder, 'notes');
        const plugin = join(pm2.folder, 'note.mjs');
        writeFileSync(
          plugin,
          `import { appendFileSync } from 'node:fs';
        const note = ({ event }) => appendFileSync(${JSON.stringify(notes)}, event + ' ');
        export default class Note {
          hooks = { 'before:resume:pass-health': note, 'after:resume:pass-health': note };
        }`,
        );
        const settings = { ...pm2.settings, plugins: [plugin] };
        writeFileSync(String(pm2.env['PM2_ENVOY_CONFIG']), JSON.stringify(settings));
        await pm2.start();
        const caller = pm2.http('POST', '/shutdown');
        await atPhase(pm2, 'delay');
        const pid = pm2.generations()[0]?.envoy.pid ?? 0;
        process.kill(pid, 'SIGSTOP');
        const refused = await pm2.http('DELETE', '/shutdown');
        assert.equal(refused.status, 502, refused.body);
        assert.equal(readFileSync(notes, 'utf8'), 'pass-health ');
        process.kill(pid, 'SIGCONT');
        await caller;
        const back = await eventually('it to be cancelled', async () => {
          const answer = await pm2.http('DELETE', '/shutdown');
          return answer.status === 200 && answer;
        });
        assert.equal(back.status, 200);
      },
      false,
    ));

  it('does nothing where nothing is under way', () =>
    withPm2({}, async (pm2) => {
      const { code, stdout } = await pm2.cli('resume', '--json');
      assert.equal(code, 0);
      assert.deepEqual(JSON.parse(stdout), { resumed: false, drain: null });
      assert.equal((await pm2.http('DELETE', '/shutdown')).status, 200);
    }));

  it('works without the manager, on a drain that another command line leads', () =>
    withPm2({ 'check-delay': '2m', 'drain-timeout': '3m' }, async (pm2) => {
      await pm2.pm2('stop', 'envoy-manager');
      const drain = pm2.cli('shutdown');
      await patiently('the delay', async () =>
        /^phase +delay/.test((await pm2.cli('status')).stdout),
      );
      const { code, stderr } = await pm2.cli('resume');
      assert.equal(code, 0);
      assert.match(stderr, /asking Envoy directly/);
      assert.equal((await drain).code, 4);
      assert.equal((await request(pm2.ports.http)).status, 200);
      assert.match((await pm2.cli('status')).stdout, /^phase +idle\nenvoy +1\.\S+ LIVE/);
    }));

  it('is refused while pm2 stops Envoy: the stop goes on', () =>
    withPm2({ 'check-delay': '3s' }, async (pm2) => {
      const held = await holdTcp(pm2.ports.tcp);
      const stopping = pm2.pm2('stop', 'envoy');
      // In its delay, or on a slow machine after it: it is refused in both.
      await patiently('the drain', async () => (await statusOf(pm2)).phase !== 'idle');
      assert.equal((await pm2.cli('resume')).code, 4);
      await held.echo('still here');
      held.close();
      await stopping;
      assert.equal(pm2.generations().length, 0);
    }));

  it('says so when there is no Envoy', () =>
    withPm2({}, async (pm2) => {
      await pm2.pm2('stop', 'envoy');
      assert.equal((await pm2.http('DELETE', '/shutdown')).status, 409);
      const { code, stderr } = await pm2.cli('resume');
      assert.equal(code, 4);
      assert.match(stderr, /there is no Envoy/);
    }));
});

describe('an Envoy that is DRAINING with no drain of ours', { concurrency: 2 }, () => {
  it('is reported, left alone, and cancelled by resume', () =>
    withPm2({ 'envoy-lost-after': '400ms' }, async (pm2) => {
      await failHealthBehindOurBack(pm2);
      const { status, body } = await pm2.http('GET', '/readyz');
      assert.equal(status, 503);
      assert.equal(JSON.parse(body).error.code, 'orphaned-drain');
      // A status tells less of an Envoy that takes long to answer.
      await eventually('/status', async () => (await statusOf(pm2)).orphanedDrain);
      assert.match(
        (await pm2.cli('status')).stdout,
        /another program has failed Envoy’s health check/,
      );
      await eventually('the warning', () =>
        /orphaned-drain is report/.test(pm2.log('envoy-manager')),
      );
      assert.equal((await request(pm2.ports.http)).status, 200);
      const { code, stdout } = await pm2.cli('resume');
      assert.equal(code, 0);
      assert.match(stdout, /Envoy is LIVE again/);
      assert.equal((await pm2.http('GET', '/readyz')).status, 200);
    }));

  it('is resumed, with orphaned-drain resume', () =>
    withPm2({ 'orphaned-drain': 'resume', 'envoy-lost-after': '400ms' }, async (pm2) => {
      await failHealthBehindOurBack(pm2);
      await eventually('/readyz', async () => (await pm2.http('GET', '/readyz')).status === 200);
      await eventually('its word', () => /orphaned-drain is resume/.test(pm2.log('envoy-manager')));
    }));

  it('is drained, with orphaned-drain shutdown', () =>
    withPm2({ 'orphaned-drain': 'shutdown', 'envoy-lost-after': '400ms' }, async (pm2) => {
      await failHealthBehindOurBack(pm2);
      await eventually('it', async () => (await statusOf(pm2)).outcome === 'drained');
      await assert.rejects(request(pm2.ports.http), /ECONNREFUSED/);
    }));
});
