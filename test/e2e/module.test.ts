import assert from 'node:assert/strict';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { isAlive } from '../../src/host/process-identity.js';
import { startBackendProcess } from '../support/backend.js';
import { holdRequest } from '../support/clients.js';
import { packModule } from '../support/module-tarball.js';
import { preparePm2, type TestPm2 } from '../support/pm2.js';
import { describeTraffic, startTraffic, type Traffic } from '../support/traffic.js';
import { patiently } from '../support/wait.js';

describe('pm2 install pm2-envoy', () => {
  let pm2: TestPm2;
  let traffic: Traffic | undefined;
  before(async () => {
    pm2 = await preparePm2({ 'envoy-drain-time': '10s' }, startBackendProcess);
    // pm2 keeps a copy of what it upgrades there.
    Object.assign(pm2.env, { TMPDIR: pm2.folder, npm_config_offline: 'true' });
  });
  after(async () => {
    await traffic?.kill();
    await pm2.stop();
  });

  const newest = () => pm2.generations().at(-1) ?? assert.fail('no generation');
  /** Resolves once another generation serves alone. */
  const untilReplaced = async (number: number): Promise<void> => {
    await patiently('another generation to serve alone', () => {
      const [first, ...more] = pm2.generations();
      return more.length === 0 && first?.ready && first.number > number;
    });
    await pm2.untilReady();
  };
  const modules = async () => {
    const list: { name: string; pm2_env: { version: string } }[] = JSON.parse(
      await pm2.pm2('jlist'),
    );
    return Object.fromEntries(list.map(({ name, pm2_env: { version } }) => [name, version]));
  };

  it('says what is missing, and with one `pm2 set` Envoy serves', async () => {
    const { PM2_ENVOY_CONFIG: config = '' } = pm2.env;
    delete pm2.env['PM2_ENVOY_CONFIG'];
    await pm2.pm2('install', packModule(pm2.folder, '0.1.0'));
    await patiently('it to say it', () =>
      pm2.log('pm2-envoy').includes('there is nothing to run yet: `pm2 set pm2-envoy:envoy-config'),
    );
    const { stdout } = await pm2.cli('doctor', '--run-dir', join(pm2.folder, 'run'));
    assert.match(
      stdout,
      /PROBLEM pm2 +the module pm2-envoy in \S+ has started no Envoy yet: it does not know/,
    );
    assert.match(stdout, /-> `pm2 set pm2-envoy:envoy-config \S+` names it, and starts it/);
    assert.match(stdout, /^1 problem, /m);
    await pm2.pm2('set', 'pm2-envoy:config', config);
    await pm2.untilReady();
    assert.deepEqual(await modules(), { 'pm2-envoy': '0.1.0', envoy: '0.1.0' });
    const { http, tcp } = pm2.ports;
    traffic = await startTraffic({ http, tcp }, { newPerSecond: 200 });
  });

  it('takes over a value under load: envoy is reloaded, and commands go by it', async () => {
    const { number } = newest();
    await pm2.pm2('multiset', 'pm2-envoy:check-delay 1s pm2-envoy:drain-timeout 50s');
    await untilReplaced(number);
    const list: { name: string; pm2_env: { kill_timeout: number } }[] = JSON.parse(
      await pm2.pm2('jlist'),
    );
    const envoy = list.find(({ name }) => name === 'envoy');
    assert.equal(envoy?.pm2_env.kill_timeout, 80_000, 'it follows drain-timeout');
    const { stdout } = await pm2.cli('config');
    assert.match(stdout, /check-delay +1s +pm2 set pm2-envoy:check-delay/);
    const { stdout: said } = await pm2.cli('doctor');
    assert.match(said, /envoy \(pid \d+\) and pm2-envoy \(pid \d+\) run in /);
  });

  it('leaves Envoy alone when a value is wrong, and says so', async () => {
    const { number, runner } = newest();
    const refusals = [
      ['check-delay', '5', /check-delay: "5" \(from pm2 set pm2-envoy:check-delay\) must be a dur/],
      ['run-dir', 'run', /run-dir: "run" \(from pm2 set pm2-envoy:run-dir\) must be an absolute/],
      ['envoy-config', '/nowhere.yaml', /\/nowhere\.yaml/],
    ] as const;
    for (const [key, value, said] of refusals) {
      await pm2.pm2('set', `pm2-envoy:${key}`, value);
      await patiently(`${key} to be refused`, () =>
        said.test(pm2.log('pm2-envoy').replaceAll('\\"', '"')),
      );
      await pm2.untilReady();
      const { code, stdout } = await pm2.cli('doctor');
      assert.equal(code, 1);
      assert.match(stdout, /what was set last is refused, and Envoy goes on with the settings/);
      await pm2.pm2('unset', `pm2-envoy:${key}`);
    }
    await pm2.pm2('set', 'pm2-envoy:check-delay', '1s');
    await pm2.untilReady();
    assert.deepEqual(newest().runner, runner);
    assert.equal(newest().number, number);
  });

  it('survives kill -9 of the daemon: the module comes back with it, and takes over', async () => {
    const { number } = newest();
    process.kill(pm2.daemonPid(), 'SIGKILL');
    await pm2.pm2('ls');
    await untilReplaced(number);
  });

  it('is not started twice by `pm2 resurrect`', async () => {
    await pm2.pm2('save');
    const { number } = newest();
    process.kill(pm2.daemonPid(), 'SIGKILL');
    await pm2.pm2('resurrect');
    await untilReplaced(number);
    const list: { name: string }[] = JSON.parse(await pm2.pm2('jlist'));
    assert.deepEqual(list.map(({ name }) => name).sort(), ['envoy', 'pm2-envoy']);
  });

  it('is upgraded under load: envoy is reloaded from a copy of its own', async () => {
    const { number } = newest();
    await pm2.pm2('install', packModule(pm2.folder, '0.1.1'));
    await untilReplaced(number);
    assert.equal((await modules())['pm2-envoy'], '0.1.1');
    const script = join(pm2.folder, 'pm2/pm2-envoy/current/package.json');
    assert.equal(JSON.parse(readFileSync(script, 'utf8')).version, '0.1.1');
  });

  it('leaves Envoy serving when it is uninstalled; `pm2 delete envoy` drains it', async (t) => {
    const { envoy } = newest();
    await pm2.pm2('uninstall', 'pm2-envoy');
    assert.ok(!existsSync(join(pm2.folder, 'pm2/modules/pm2-envoy')));
    assert.ok(isAlive(envoy));
    const report = (await traffic?.stop()) ?? assert.fail('no traffic');
    t.diagnostic(describeTraffic(report));
    assert.equal(report.lost, 0, describeTraffic(report));
    const slow = await holdRequest(pm2.ports.http);
    const deleted = pm2.pm2('delete', 'envoy');
    await patiently('the drain', async () => {
      const { stdout } = await pm2.cli('status', '--json');
      return JSON.parse(stdout).phase === 'wait';
    });
    assert.equal((await slow.finish()).status, 200);
    await deleted;
    assert.ok(!isAlive(envoy));
    rmSync(join(pm2.folder, 'pm2/pm2-envoy'), { recursive: true });
  });
});
