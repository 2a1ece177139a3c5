import assert from 'node:assert/strict';
import { once } from 'node:events';
import { chmodSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join, resolve } from 'node:path';
import { describe, it } from 'node:test';
import { request } from '../support/clients.js';
import { envoyBinary } from '../support/envoy.js';
import { pidsWith, statusOf, type TestPm2, withPm2 } from '../support/pm2.js';
import { startProcess } from '../support/process.js';
import { eventually, patiently } from '../support/wait.js';

const RUNNER = resolve(import.meta.dirname, '../../dist/apps/runner.js');
const ECOSYSTEM = resolve(import.meta.dirname, '../../ecosystem.config.js');

describe('an Envoy that does not start', () => {
  it('is shown with its own last error and how often, until one serves', (t) =>
    withPm2(
      {},
      async (pm2) => {
        const { http } = pm2.ports;
        const other = createServer().listen(http, '127.0.0.1');
        t.after(() => other.close());
        await once(other, 'listening');
        void pm2.pm2('start', ECOSYSTEM).catch(() => undefined);
        const failed = await patiently('several failed starts', async () => {
          const { failedStart } = await statusOf(pm2);
          return failedStart?.count > 2 && failedStart;
        });
        const said = `cannot bind '127.0.0.1:${http}': Address already in use`;
        assert.ok(failed.reason.includes(said), failed.reason);
        await sayWhy(pm2, said);
        other.close();
        await pm2.untilReady();
        assert.equal((await request(http)).status, 200);
        // Its runner notes a moment later that it serves.
        await eventually('no failed start', async () => !(await statusOf(pm2)).failedStart);
        assert.match((await pm2.http('GET', '/metrics')).body, /^pm2_envoy_failed_starts 0$/m);
      },
      false,
    ));

  it('for its bootstrap: `pm2 start` comes back, pm2 does not show it online, and doctor says why', () =>
    withPm2(
      {},
      async (pm2) => {
        writeFileSync(String(pm2.settings['envoy-config']), 'static_resources: {listeners: 5}');
        // Its limit is below the time that pm2 waits for an app to be ready.
        await pm2.pm2('start', ECOSYSTEM);
        const statusNow = async (): Promise<string> => {
          const list: { name: string; pm2_env: { status: string } }[] = JSON.parse(
            await pm2.pm2('jlist'),
          );
          return list.find(({ name }) => name === 'envoy')?.pm2_env.status ?? '';
        };
        await patiently('pm2 to show it', async () => (await statusNow()) !== 'online');
        const { code, stdout } = await pm2.cli('doctor');
        assert.equal(code, 1);
        assert.match(stdout, /PROBLEM envoy +no Envoy runs: its start failed at .*Envoy refuses/);
      },
      false,
    ));
});

describe('a start', () => {
  it('has Envoy check the bootstrap beforehand only beside one that serves', () =>
    withPm2(
      {},
      async (pm2) => {
        const path = join(pm2.folder, 'noting-envoy');
        const calls = join(pm2.folder, 'calls');
        writeFileSync(path, `#!/bin/sh\necho "$*" >> '${calls}'\nexec '${envoyBinary()}' "$@"\n`);
        chmodSync(path, 0o755);
        pm2.env['ENVOY_BIN'] = path;
        await pm2.start();
        // One reads the bootstrap, and one serves: a third one's pages would stay in use (decision 0010).
        const isCheck = (words: string): boolean => /--mode validate/.test(words);
        const madeBy = (): string[] => readFileSync(calls, 'utf8').trim().split('\n');
        assert.deepEqual(madeBy().map(isCheck), [true, false], madeBy().join('\n'));
        await pm2.pm2('reload', 'envoy');
        assert.deepEqual(madeBy().slice(2).map(isCheck), [true, true, false]);
      },
      false,
    ));

  it('that is stopped while Envoy hangs at reading the bootstrap ends at once, and nothing is left', () =>
    withPm2(
      {},
      async (pm2) => {
        const script = join(pm2.folder, 'hanging-envoy');
        const started = join(pm2.folder, 'started');
        writeFileSync(script, `#!/bin/sh\ntouch '${started}'\nsleep 600\n`);
        chmodSync(script, 0o755);
        pm2.env['ENVOY_BIN'] = script;
        const runner = startProcess(pm2, process.execPath, [RUNNER]);
        await patiently('the script to run', () => existsSync(started));
        runner.child.kill('SIGTERM');
        assert.equal(await runner.ended, 75, runner.output());
        await patiently('nothing of it', () => pidsWith(script).length === 0);
      },
      false,
    ));
});

async function sayWhy(pm2: TestPm2, said: string): Promise<void> {
  const ready = await pm2.http('GET', '/readyz');
  assert.equal(ready.status, 503);
  const { code, message } = JSON.parse(ready.body).error;
  assert.equal(code, 'envoy-start-failed');
  assert.match(
    message,
    /^there is no Envoy: \d+ starts in a row have failed since \S+: Envoy exited/,
  );
  assert.ok(message.includes(said), message);
  assert.match((await pm2.http('GET', '/metrics')).body, /^pm2_envoy_failed_starts [1-9]\d*$/m);
  const page = (await pm2.http('GET', '/')).body;
  assert.match(page, /There is no Envoy: it does not start/);
  assert.match(page, /Address already in use/);
  const status = (await pm2.cli('status')).stdout;
  assert.match(status, /^envoy +there is none: \d+ starts in a row have failed/m);
  assert.ok(status.includes(said), status);
  const doctor = await pm2.cli('doctor');
  assert.equal(doctor.code, 1);
  const finding = /PROBLEM envoy +no Envoy runs: \d+ starts in a row.*\n +-> (.*)/.exec(
    doctor.stdout,
  );
  assert.ok(finding, doctor.stdout);
  assert.match(
    finding[1] ?? '',
    /^end the program that has the port \(`ss -ltnp 'sport = :\d+'`\), or change the port .*; pm2 retries by itself$/,
  );
  assert.equal(doctor.stdout.match(/PROBLEM/g)?.length, 1, doctor.stdout);
  const redeploy = await pm2.cli('redeploy');
  assert.equal(redeploy.code, 1, redeploy.stderr);
  const failure = `${redeploy.stdout}${redeploy.stderr}`;
  assert.match(
    failure,
    /the redeploy failed after \S+: Envoy exited with code 1 before it was LIVE/,
  );
  assert.ok(failure.includes(said), failure);
  assert.match(failure, /; end the program that has the port \(`ss -ltnp/);
}
