import assert from 'node:assert/strict';
import { chmodSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { createAdminClient } from '../../src/admin/client.js';
import { isAlive } from '../../src/host/process-identity.js';
import { writeBootstrap } from '../support/bootstrap.js';
import { holdTcp, request } from '../support/clients.js';
import { envoyBinary } from '../support/envoy.js';
import { statusOf, type TestPm2, withPm2 } from '../support/pm2.js';
import { appShown } from '../support/pm2-shows.js';
import { patiently } from '../support/wait.js';

const atPhase = (pm2: TestPm2, phase: string) =>
  patiently(`the phase ${phase}`, async () => (await statusOf(pm2)).phase === phase);

async function shutdown(pm2: TestPm2): Promise<{ status: number; outcome: string }> {
  const { status, body } = await pm2.http('POST', '/shutdown');
  return { status, outcome: JSON.parse(body).outcome };
}

/** The host is out of service, and says since when, by whom, and what brings it back. */
async function assertStaysDrained(pm2: TestPm2, by: RegExp): Promise<void> {
  const { status, body } = await patiently('the manager', () => pm2.http('GET', '/readyz'));
  assert.equal(status, 503, body);
  assert.match(body, /"drained".*drained at \d{4}-.*; bring it back with `pm2-envoy redeploy`/);
  assert.match(body, by);
  await assert.rejects(request(pm2.ports.http), /ECONNREFUSED/);
  await patiently('the status', async () => (await statusOf(pm2)).outcome === 'drained');
}

/** Kills a process of this host with SIGKILL, and waits until pm2 has started the app again. */
async function killApp(pm2: TestPm2, app: string): Promise<void> {
  const pid = await pm2.pidOf(app);
  process.kill(pid, 'SIGKILL');
  await patiently(`another ${app}`, async () => ![0, pid].includes(await pm2.pidOf(app)));
}

async function killEnvoy(pm2: TestPm2): Promise<void> {
  const [generation] = pm2.generations();
  assert.ok(generation);
  const runner = await pm2.pidOf('envoy');
  process.kill(generation.envoy.pid, 'SIGKILL');
  await patiently('another runner', async () => ![0, runner].includes(await pm2.pidOf('envoy')));
}

/** pm2 knows that it is ready, too: it can't restart one that is not. */
const online = (pm2: TestPm2) =>
  patiently(
    'the runner to hold the host',
    async () =>
      /the host is (drained at|being drained)/.test(pm2.log('envoy')) &&
      (await appShown(pm2, 'envoy')).status === 'online',
  );

describe('a host that was drained', { concurrency: 2 }, () => {
  it('stays out over kill -9 of Envoy, runner and manager, and comes back by resume or redeploy', () =>
    withPm2({}, async (pm2) => {
      assert.deepEqual(await shutdown(pm2), { status: 200, outcome: 'drained' });
      const { steps, startedBy, checkDelayMs } = await statusOf(pm2);
      assert.deepEqual(
        steps.map(({ phase }: { phase: string }) => phase),
        ['fail-health', 'delay', 'close', 'wait', 'finish'],
      );
      assert.deepEqual([startedBy, checkDelayMs], [{ kind: 'http', detail: '127.0.0.1' }, 0]);
      const by = /by an HTTP request from 127\.0\.0\.1/;
      await assertStaysDrained(pm2, by);
      await killEnvoy(pm2);
      await online(pm2);
      assert.equal(pm2.generations().length, 0, 'no Envoy is started');
      await assertStaysDrained(pm2, by);
      await killApp(pm2, 'envoy');
      await killApp(pm2, 'envoy-manager');
      await assertStaysDrained(pm2, by);
      assert.deepEqual(await shutdown(pm2), { status: 200, outcome: 'drained' });

      const resumed = await pm2.cli('resume');
      assert.equal(resumed.code, 0, resumed.stderr);
      await pm2.untilReady();
      assert.equal((await request(pm2.ports.http)).status, 200);

      const { code } = await pm2.cli('shutdown');
      assert.equal(code, 0);
      assert.equal((await statusOf(pm2)).startedBy.kind, 'cli');
      // Envoy lives on, and the next runner looks after it as it is.
      await killApp(pm2, 'envoy');
      await patiently('a runner that answers for it', async () => {
        const [first] = pm2.generations();
        return first && first.runner.pid === (await pm2.pidOf('envoy'));
      });
      await assertStaysDrained(pm2, /by `pm2-envoy shutdown` of user /);
      const byUser = /is drained at \d{4}-\S+, by `pm2-envoy shutdown` of user /;
      const { stdout: found } = await pm2.cli('doctor');
      assert.match(
        found,
        /warning envoy +generation \d+ is DRAINING: the host is drained at .*\n +-> `pm2-envoy redeploy`/,
      );
      assert.match(found, byUser);
      const redeployed = await pm2.cli('redeploy');
      assert.equal(redeployed.code, 0, redeployed.stdout + redeployed.stderr);
      assert.match(redeployed.stderr, byUser);
      assert.doesNotMatch(redeployed.stderr, /serves \(/);
      await pm2.untilReady();
      assert.equal((await request(pm2.ports.http)).status, 200);
    }));

  it('stays out over kill -9 of the daemon and pm2 resurrect, and comes back by pm2 restart', () =>
    withPm2({}, async (pm2) => {
      await pm2.pm2('save');
      assert.deepEqual(await shutdown(pm2), { status: 200, outcome: 'drained' });
      await pm2.killDaemon();
      await pm2.pm2('resurrect');
      await online(pm2);
      await assertStaysDrained(pm2, /by an HTTP request/);
      await pm2.pm2('restart', 'envoy');
      await pm2.untilReady();
      assert.equal((await request(pm2.ports.http)).status, 200);
      assert.equal((await statusOf(pm2)).phase, 'idle');
      // What pm2 has saved is older than the drain; that someone has asked since is known all the same.
      const second = pm2.generations().at(-1);
      await pm2.killDaemon();
      await pm2.pm2('resurrect');
      await patiently('a newer generation', () =>
        pm2.generations().some(({ number, ready }) => ready && number > (second?.number ?? 0)),
      );
      await pm2.untilReady();
      assert.equal((await request(pm2.ports.http)).status, 200);
    }));

  it('stays out where the drain began, or waited, as Envoy crashed', () =>
    withPm2({}, async (pm2) => {
      const held = await holdTcp(pm2.ports.tcp);
      const caller = shutdown(pm2);
      await atPhase(pm2, 'wait');
      await killEnvoy(pm2);
      held.close();
      assert.deepEqual(await caller, { status: 200, outcome: 'envoy-gone' });
      await online(pm2);
      assert.equal((await pm2.http('GET', '/readyz')).status, 503);
      assert.match(
        (await pm2.cli('doctor')).stdout,
        /warning envoy +no Envoy runs: the drain of \S+ by an HTTP request from 127\.0\.0\.1 keeps the host out of service\n +-> `pm2-envoy redeploy`/,
      );
      await pm2.pm2('restart', 'envoy');
      await pm2.untilReady();

      // Between the crash and the restart: whichever is first, nothing serves afterwards.
      const [generation] = pm2.generations();
      process.kill(generation?.envoy.pid ?? 0, 'SIGKILL');
      const { status } = await shutdown(pm2);
      assert.equal(status, 200);
      assert.equal((await pm2.http('GET', '/readyz')).status, 503);
      await assert.rejects(request(pm2.ports.http), /ECONNREFUSED/);
      await patiently('the runner', async () => (await pm2.pidOf('envoy')) !== 0);
      await assert.rejects(request(pm2.ports.http), /ECONNREFUSED/);
      assert.equal((await pm2.http('GET', '/readyz')).status, 503);
    }));

  it('drained by its own stop, comes back by pm2 resurrect', () =>
    withPm2({}, async (pm2) => {
      await pm2.pm2('save');
      await pm2.pm2('kill');
      await patiently('Envoy to end', () => pm2.generations().length === 0);
      await pm2.pm2('resurrect');
      await pm2.untilReady();
      assert.equal((await request(pm2.ports.http)).status, 200);
    }));
});

describe('a drain that meets a reload', { concurrency: 2 }, () => {
  it('is cancelled by one that brings the host back, and a second drain is of all that live', () =>
    withPm2({}, async (pm2) => {
      const held = await holdTcp(pm2.ports.tcp);
      const first = shutdown(pm2);
      await atPhase(pm2, 'wait');
      const reloading = pm2.pm2('reload', 'envoy').catch(() => undefined);
      assert.deepEqual(await first, { status: 409, outcome: 'cancelled' });
      assert.equal((await request(pm2.ports.http)).status, 200);
      const newer = await holdTcp(pm2.ports.tcp);
      // A runner that hears of it later takes part in the second drain.
      await patiently('the hand-over', () =>
        /handing over from generation 1/.test(pm2.log('envoy')),
      );
      const second = shutdown(pm2);
      await atPhase(pm2, 'wait');
      held.close();
      await patiently('the older generation to end', () => pm2.generations().length === 1);
      await newer.echo('still here');
      assert.equal((await statusOf(pm2)).outcome, null, 'a connection is open');
      newer.close();
      assert.deepEqual(await second, { status: 200, outcome: 'drained' });
      await assert.rejects(request(pm2.ports.http), /ECONNREFUSED/);
      await reloading;
    }));

  it('is known after the reload has failed: no ready, no resumed, and nothing serves', () =>
    withPm2({}, async (pm2) => {
      pm2.env['ENVOY_BIN'] = stuckEnvoy(pm2);
      const reloading = pm2.pm2('reload', 'envoy', '--update-env').catch(() => undefined);
      await patiently('generation 2', () => pm2.generations().length === 2);
      assert.deepEqual(await shutdown(pm2), { status: 200, outcome: 'drained' });
      await reloading;
      await patiently('the new runner', async () => {
        const [only, more] = pm2.generations();
        return !more && only?.runner.pid === (await pm2.pidOf('envoy'));
      });
      await assertStaysDrained(pm2, /by an HTTP request/);
      const { code, stderr } = await pm2.cli('resume');
      assert.equal(code, 4);
      assert.match(stderr, /listeners are closed.*pm2-envoy redeploy/);
      assert.equal((await pm2.http('DELETE', '/shutdown')).status, 409);
    }));

  it('can be cancelled in its delay while the reload is under way', () =>
    withPm2({ 'check-delay': '30s' }, async (pm2) => {
      const caller = shutdown(pm2);
      await atPhase(pm2, 'delay');
      pm2.env['ENVOY_BIN'] = stuckEnvoy(pm2);
      const reloading = pm2.pm2('reload', 'envoy', '--update-env').catch(() => undefined);
      await patiently('generation 2', () => pm2.generations().length === 2);
      const { status, body } = await pm2.http('DELETE', '/shutdown');
      assert.equal(status, 200, body);
      assert.deepEqual(await caller, { status: 409, outcome: 'cancelled' });
      assert.equal((await pm2.http('GET', '/readyz')).status, 200);
      assert.equal((await request(pm2.ports.http)).status, 200);
      // It would wait for the Envoy that never comes.
      void reloading;
    }));
});

describe('what Envoy shows', { concurrency: 2 }, () => {
  for (const [what, more] of [
    ['by its counter', {}],
    [
      'by its sockets, where a stats_matcher hides the counter',
      { stats_config: { stats_matcher: { reject_all: true } } },
    ],
  ] as const) {
    it(`is shown, ${what}: closed by another tool, a generation is draining, then drained`, () =>
      withPm2(
        {},
        async (pm2) => {
          writeBootstrap(String(pm2.settings['envoy-config']), pm2.ports, pm2.backend, more);
          await pm2.start();
          const held = await holdTcp(pm2.ports.tcp);
          const shown = async (state: string) => {
            const { listenersClosed, generations } = await statusOf(pm2);
            return listenersClosed === (state !== 'serving') && generations[0]?.state === state;
          };
          await patiently('it to serve', () => shown('serving'));
          await closeListeners(pm2);
          await patiently('it to be draining', () => shown('draining'));
          const { body } = await pm2.http('GET', '/metrics');
          assert.match(body, /^pm2_envoy_generations\{state="draining"\} 1$/m);
          assert.match(body, /^pm2_envoy_generations\{state="serving"\} 0$/m);
          await patiently('no longer ready', async () =>
            /listeners-closed/.test((await pm2.http('GET', '/readyz')).body),
          );
          const { code, stderr } = await pm2.cli('resume');
          assert.deepEqual([code, /listeners are closed/.test(stderr)], [4, true], stderr);
          held.close();
          await patiently('it to be drained', () => shown('drained'));
          const { stdout } = await pm2.cli('status');
          assert.match(stdout, /^phase +idle, but Envoy’s listeners are closed/m);
          // A drain of the host is not in its way, and says what is so.
          assert.deepEqual(await shutdown(pm2), { status: 200, outcome: 'drained' });
        },
        false,
      ));
  }

  it('comes before any record: closed listeners are not ready, and not resumed', () =>
    withPm2({}, async (pm2) => {
      await closeListeners(pm2);
      await patiently('no longer ready', async () =>
        /listeners-closed/.test((await pm2.http('GET', '/readyz')).body),
      );
      assert.equal((await pm2.cli('resume')).code, 4);
      writeFileSync(String(pm2.settings['envoy-config']), 'not: [valid');
      await pm2.pm2('reload', 'envoy').catch(() => undefined);
      await patiently('the adoption', () =>
        /generation 1 stays as it is, drained/.test(pm2.log('envoy')),
      );
      assert.doesNotMatch(pm2.log('envoy'), /keeps serving/);
    }));

  it('is obeyed where nothing can be written down: a cancelled drain closes nothing', () =>
    withPm2({ 'check-delay': '30s' }, async (pm2) => {
      // A file instead of the folder, because the user of the tests may write everywhere.
      const drains = join(pm2.folder, 'run/drains');
      rmSync(drains, { recursive: true, force: true });
      writeFileSync(drains, '');
      const caller = shutdown(pm2);
      await atPhase(pm2, 'delay');
      assert.equal((await pm2.http('DELETE', '/shutdown')).status, 200);
      assert.deepEqual(await caller, { status: 409, outcome: 'cancelled' });
      assert.equal((await request(pm2.ports.http)).status, 200);
      // Only the manager could be told; another leader could not.
      const [generation] = pm2.generations();
      const admin = createAdminClient({ kind: 'unix', path: generation?.adminSocket ?? '' });
      await admin.failHealthCheck();
      const { status, body } = await pm2.http('DELETE', '/shutdown');
      assert.equal(status, 502, body);
      assert.equal(await admin.state(), 'DRAINING');
      assert.equal(await admin.hasClosedListeners(), false);
      admin.close();
    }));
});

describe('pm2 in the middle of a reload', { concurrency: 2 }, () => {
  it('told to restart: the host keeps serving', () =>
    withPm2({}, async (pm2) => {
      const [first] = pm2.generations();
      pm2.env['ENVOY_BIN'] = stuckEnvoy(pm2);
      const reloading = pm2.pm2('reload', 'envoy', '--update-env').catch(() => undefined);
      await patiently('generation 2', () => pm2.generations().length === 2);
      pm2.env['ENVOY_BIN'] = envoyBinary();
      const restarting = pm2.pm2('restart', 'envoy', '--update-env').catch(() => undefined);
      await patiently('another generation', () =>
        pm2.generations().some(({ number, ready }) => number > 2 && ready),
      );
      assert.equal((await request(pm2.ports.http)).status, 200);
      assert.equal((await statusOf(pm2)).phase, 'idle');
      await Promise.all([reloading, restarting]);
      assert.ok(first && !/shutdown: fail-health/.test(pm2.log('envoy')), 'nothing was drained');
    }));

  it('killed -9 once it has told the old runner: the new generation keeps serving', () =>
    withPm2({}, async (pm2) => {
      const held = await holdTcp(pm2.ports.tcp);
      const reloading = pm2.pm2('reload', 'envoy').catch(() => undefined);
      await patiently('the hand-over', () =>
        /handing over from generation 1/.test(pm2.log('envoy')),
      );
      await pm2.killDaemon();
      held.close();
      await patiently('generation 1 to end', () =>
        pm2.generations().every(({ number }) => number !== 1),
      );
      const [second] = pm2.generations();
      assert.ok(second && isAlive(second.envoy));
      assert.equal((await request(pm2.ports.http)).status, 200);
      // The command hangs once its daemon is gone.
      void reloading;
    }));
});

/** As a tool does that knows nothing of pm2-envoy. */
async function closeListeners(pm2: TestPm2): Promise<void> {
  const [generation] = pm2.generations();
  const admin = createAdminClient({ kind: 'unix', path: generation?.adminSocket ?? '' });
  await admin.closeListeners();
  admin.close();
}

/** Validates as Envoy does, and then never comes up. */
function stuckEnvoy(pm2: TestPm2): string {
  const path = join(pm2.folder, 'stuck-envoy');
  writeFileSync(
    path,
    `#!/bin/sh\ncase "$*" in *--mode*|*--version*) exec '${envoyBinary()}' "$@" ;; *) exec sleep 300 ;; esac\n`,
  );
  chmodSync(path, 0o755);
  return path;
}
