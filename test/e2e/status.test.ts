import assert from 'node:assert/strict';
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { type Held, holdTcp, request } from '../support/clients.js';
import { envoyBinary } from '../support/envoy.js';
import { statusOf, type TestPm2, withPm2 } from '../support/pm2.js';
import { eventually, letPass, patiently } from '../support/wait.js';

describe('GET /status and pm2-envoy status', { concurrency: 2 }, () => {
  it('list both generations of a hand-over and add up their connections; /shutdown drains both', () =>
    withPm2({}, async (pm2) => {
      const [first = assert.fail()] = pm2.generations();
      const onOld = await holdTcp(pm2.ports.tcp);
      const reloading = pm2.pm2('reload', 'envoy').catch(() => undefined);
      await handsOver(pm2, 1);
      await eventually('its listeners to be closed', () =>
        pm2.log('envoy').includes('handover: wait'),
      );
      const onNew = await holdTcp(pm2.ports.tcp);

      const status = await eventually('both connections', async () => {
        const now = await statusOf(pm2);
        return now.connections.open === 2 && now;
      });
      const [older, newer] = status.generations;
      const { deadline, ...rest } = older;
      assert.deepEqual(rest, {
        ...{ number: 1, state: 'handing-over', version: '1.40.0', connections: 1 },
        ...{ pid: first.envoy.pid, runnerPid: first.runner.pid, startedAt: first.startedAt },
        paceLeftMs: null,
        failedReload: null,
        udp: null,
      });
      const leftMs = Date.parse(deadline) - Date.now();
      assert.ok(leftMs > 0 && leftMs <= 40_000, `the deadline is in ${leftMs} ms`);
      assert.deepEqual(
        [newer.number, newer.state, newer.connections, newer.deadline],
        [2, 'serving', 1, null],
      );
      assert.deepEqual([status.phase, status.envoy.generation], ['idle', 2]);
      assert.deepEqual(status.connections.byKind.tcp, 2);
      const { stdout } = await pm2.cli('status');
      assert.match(
        stdout,
        /^ +1 {2}handing-over, 1\.40\.0, pid \d+, 1 connection open, until \S+ /m,
      );
      assert.match(stdout, /^ +2 {2}serving, 1\.40\.0, pid \d+, 1 connection open$/m);
      assert.match(stdout, /^connections {2}2 open \(2 tcp\)/m);

      const answer = pm2.http('POST', '/shutdown');
      await eventually('the drain', async () => (await statusOf(pm2)).phase === 'wait');
      assert.equal((await pm2.http('GET', '/readyz')).status, 503);
      onNew.close();
      assert.equal(await isAnsweredWithin(answer, 1_000), false, 'the old one’s holds it');
      await onOld.echo('still here');
      onOld.close();
      const { status: code, body } = await answer;
      const { outcome, connectionsAtStart, connectionsLeft } = JSON.parse(body);
      assert.deepEqual(
        { code, outcome, connectionsAtStart, connectionsLeft },
        { code: 200, outcome: 'drained', connectionsAtStart: 2, connectionsLeft: 0 },
      );
      assert.deepEqual([onOld.isCut(), onNew.isCut()], [false, false]);
      await reloading;
    }));

  it('say of a generation that it is starting, and count those that serve meanwhile', () =>
    withPm2({}, async (pm2) => {
      pm2.env['ENVOY_BIN'] = waitingEnvoy(pm2);
      const held = await holdTcp(pm2.ports.tcp);
      const reloading = pm2.pm2('reload', 'envoy', '--update-env');
      // What was counted as the connection came may be shown for a moment.
      const status = await patiently('the second generation', async () => {
        const now = await statusOf(pm2);
        return now.generations.length === 2 && now.connections?.open === 1 && now;
      });
      assert.equal(status.generations[0].state, 'serving');
      const { state, version, connections, deadline, runnerPid } = status.generations[1];
      assert.deepEqual(
        { state, version, connections, deadline },
        { state: 'starting', version: null, connections: null, deadline: null },
      );
      assert.ok(runnerPid > 0);
      assert.equal(status.envoy.generation, 1);
      const { stdout } = await pm2.cli('status');
      assert.match(
        stdout,
        /^ +2 {2}starting, version not known yet, pid \d+, connections unknown$/m,
      );
      writeFileSync(join(pm2.folder, 'go'), '');
      held.close();
      await reloading;
    }));

  it('say that a generation whose runner was killed -9 has none, with the manager down too', () =>
    withPm2({}, async (pm2) => {
      const [first = assert.fail()] = pm2.generations();
      const held = await holdTcp(pm2.ports.tcp);
      process.kill(first.runner.pid, 'SIGKILL');
      await handsOver(pm2, 1);
      // On a busy machine a count may be some seconds old.
      const { generations } = await eventually('the connection', async () => {
        const status = await statusOf(pm2);
        return status.connections?.open === 1 && status;
      });
      const [orphan, next] = generations;
      assert.deepEqual([orphan.number, orphan.runnerPid, orphan.connections], [1, null, 1]);
      assert.deepEqual([next.number, next.state], [2, 'serving']);
      assert.ok(next.runnerPid > 0 && next.runnerPid !== first.runner.pid);

      await pm2.pm2('stop', 'envoy-manager');
      const { code, stdout, stderr } = await pm2.cli('status');
      assert.equal(code, 0, stderr);
      assert.match(stderr, /asked Envoy directly/);
      assert.match(stdout, /^ +1 {2}handing-over, .* at the latest$/m);
      assert.match(stdout, /^ +2 {2}serving, /m);
      await held.echo('still here');
      held.close();
      await eventually('the first generation to end', () => pm2.generations().length === 1);
    }));
});

describe('GET /readyz', () => {
  it('asked every 20 ms stays 200 through a reload and a restart of Envoy', () =>
    withPm2({}, async (pm2) => {
      const answers: string[] = [];
      let over = false;
      const polling = (async () => {
        while (!over) {
          const { status, body } = await pm2.http('GET', '/readyz');
          answers.push(status === 200 ? 'ready' : body);
          await letPass(20);
        }
      })();
      const held: Held[] = [];
      for (const command of ['reload', 'restart']) {
        const before = pm2.generations().at(-1)?.number ?? 0;
        held.push(await holdTcp(pm2.ports.tcp));
        const running = pm2.pm2(command, 'envoy');
        await handsOver(pm2, before);
        await letPass(500);
        for (const one of held) one.close();
        await running;
        await eventually('one generation', () => pm2.generations().length === 1);
      }
      over = true;
      await polling;
      assert.deepEqual(new Set(answers), new Set(['ready']));
      assert.ok(answers.length > 20, `${answers.length} answers`);
      assert.equal((await request(pm2.ports.http)).status, 200);
    }));
});

/** Waits until a generation is handed over from, while a later one serves. */
async function handsOver(pm2: TestPm2, number: number): Promise<void> {
  await patiently(`the hand-over from generation ${number}`, async () => {
    const [older, newer] = (await statusOf(pm2)).generations;
    return older?.number === number && older.state === 'handing-over' && newer?.state === 'serving';
  });
}

async function isAnsweredWithin(answer: Promise<unknown>, ms: number): Promise<boolean> {
  return Promise.race([answer.then(() => true), letPass(ms).then(() => false)]);
}

/** An Envoy that starts once there is a file `go`. */
function waitingEnvoy(pm2: TestPm2): string {
  const path = join(pm2.folder, 'waiting-envoy');
  const wait = `while [ ! -e '${join(pm2.folder, 'go')}' ]; do sleep 0.1; done`;
  writeFileSync(
    path,
    `#!/bin/sh\ncase "$*" in *--mode*|*--version*) ;; *) ${wait} ;; esac\nexec '${envoyBinary()}' "$@"\n`,
  );
  chmodSync(path, 0o755);
  return path;
}
