import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { isAbsolute, join, relative } from 'node:path';
import { describe, it } from 'node:test';
import { AFTER_DRAIN_MS } from '../../src/config/grace-period.js';
import { TERMINATE_LIMIT_MS } from '../../src/envoy/process.js';
import { isPm2EnvoyError } from '../../src/errors.js';
import { HOOK_TIMEOUT_MS } from '../../src/plugins/registry.js';
import {
  drainLimitMs,
  envoyApps,
  LISTEN_TIMEOUT_MS,
  LIVE_LIMIT_MS,
  type Pm2App,
} from '../../src/pm2/apps.js';
import { makeTempFolder } from './fakes.js';

const cwd = makeTempFolder();

function appsWith(env: Record<string, string> = {}): Pm2App[] {
  return envoyApps({ cwd, env });
}

function appNamed(name: string, env: Record<string, string> = {}): Pm2App {
  return appsWith(env).find((app) => app.name === name) ?? assert.fail(`no app ${name}`);
}

describe('envoyApps', () => {
  it('are the runner and the manager', () => {
    assert.deepEqual(
      appsWith().map(({ name }) => name),
      ['envoy', 'envoy-manager'],
    );
  });

  it('are only the manager where Envoy is someone else’s', () => {
    const apps = appsWith({ PM2_ENVOY_ADMIN_ADDRESS: 'http://127.0.0.1:9901' });
    assert.deepEqual(
      apps.map(({ name }) => name),
      ['envoy-manager'],
    );
  });

  it('run the runner so that a reload starts the new one first', () => {
    const runner = appNamed('envoy');
    assert.equal(runner.exec_mode, 'cluster');
    assert.equal(runner.wait_ready, true);
    assert.equal(runner.instances, 1);
    assert.ok((runner.listen_timeout ?? 0) > LIVE_LIMIT_MS);
    assert.equal(runner.listen_timeout, LISTEN_TIMEOUT_MS);
    assert.equal(appNamed('envoy-manager').exec_mode, 'fork');
  });

  it('keep pm2 from signalling Envoy and from ending the apps with itself', () => {
    for (const app of appsWith()) {
      assert.equal(app.treekill, false);
      assert.equal(app.pmx, false);
    }
  });

  it('have Node keep small: no source maps, which pm2 turns on, and garbage collected early', () => {
    for (const app of appsWith()) {
      assert.equal(app.disable_source_map_support, true);
      assert.ok(app.node_args.includes('--optimize-for-size'));
    }
  });

  it('do without compiled code: both wait nearly always', () => {
    for (const app of appsWith()) {
      assert.deepEqual(app.node_args.slice(-2), ['--no-opt', '--no-sparkplug']);
    }
  });

  it('end where they can’t be loaded: the container of cluster mode swallows what an import rejects with', () => {
    for (const app of appsWith()) assert.equal(app.node_args[0], '--unhandled-rejections=strict');
  });

  it('are started again however often they end immediately', () => {
    for (const app of appsWith()) {
      const delays = [app.exp_backoff_restart_delay];
      while (delays.length < 15) delays.push(Math.floor((delays.at(-1) ?? 0) * 1.5));
      const totalMs = delays.reduce((sum, delayMs) => sum + delayMs, 0);
      // pm2 gives up at 16 ends in the first 16 s (its lib/God.js).
      assert.ok(totalMs > 16_000, `${app.name}: 16 ends in ${totalMs} ms`);
    }
  });

  it('are not restarted for a configuration that can’t work', () => {
    for (const app of appsWith()) assert.ok(app.stop_exit_codes.includes(78), app.name);
    assert.ok(!appNamed('envoy').stop_exit_codes.includes(0));
    assert.ok(!appNamed('envoy').stop_exit_codes.includes(1));
  });

  it('have scripts of their own, with absolute paths below the package', () => {
    for (const app of appsWith()) {
      assert.ok(isAbsolute(app.script));
      const source = app.script.replace('/dist/', '/src/').replace(/\.js$/, '.ts');
      assert.ok(existsSync(source), `${app.script} has no source`);
    }
  });

  it('leave pm2 more time than the drain takes, and follow drain-timeout', () => {
    const timeoutFor = (drainTimeout: string) =>
      appsWith({ PM2_ENVOY_DRAIN_TIMEOUT: drainTimeout }).map(({ kill_timeout }) => kill_timeout);
    const [runner = 0, manager = 0] = timeoutFor('2m');
    assert.ok(runner > 120_000);
    assert.equal(manager, runner);
    assert.deepEqual(timeoutFor('10m'), [runner + 480_000, runner + 480_000]);
    assert.ok(appNamed('envoy').kill_timeout > 300_000);
  });

  it('never ask pm2 for more than a timer takes, which pm2 takes for 1 ms', () => {
    const { kill_timeout } = appNamed('envoy', { PM2_ENVOY_DRAIN_TIMEOUT: '596h31m' });
    assert.equal(kill_timeout, 2 ** 31 - 1);
  });

  it('leave what may follow a drain its time', () => {
    assert.equal(AFTER_DRAIN_MS, HOOK_TIMEOUT_MS + TERMINATE_LIMIT_MS + 5_000);
  });

  it('have pm2 wait for as long as the platform does', () => {
    for (const app of appsWith({ PM2_ENVOY_GRACE_PERIOD: '10s' })) {
      assert.equal(app.kill_timeout, 10_000);
    }
  });

  it('read the configuration file as the apps will', () => {
    const file = join(cwd, 'long.json');
    writeFileSync(file, '{"drain-timeout": "20m"}');
    assert.equal(
      appNamed('envoy', { PM2_ENVOY_CONFIG: file }).kill_timeout,
      1_200_000 + AFTER_DRAIN_MS,
    );
  });

  it('read the profile as the apps will', () => {
    assert.equal(
      appNamed('envoy', { PM2_ENVOY_PROFILE: 'local' }).kill_timeout,
      30_000 + AFTER_DRAIN_MS,
    );
  });

  it('hand the variables of the options to both apps, with an absolute configuration file', () => {
    const file = join(cwd, 'empty.json');
    writeFileSync(file, '{}');
    for (const app of appsWith({ PM2_ENVOY_CONFIG: file, PM2_ENVOY_SERVE_PORT: '0', A: 'b' })) {
      assert.deepEqual(app.env, {
        PM2_ENVOY_CONFIG: file,
        PM2_ENVOY_SERVE_PORT: '0',
        A: 'b',
        PM2ENVOY_PROJECT: cwd,
      });
    }
  });

  it('take a relative configuration file of the options from their folder', () => {
    writeFileSync(join(cwd, 'relative.json'), '{"drain-timeout": "20m"}');
    for (const app of appsWith({ PM2_ENVOY_CONFIG: 'relative.json' })) {
      assert.equal(app.env['PM2_ENVOY_CONFIG'], join(cwd, 'relative.json'));
      assert.equal(app.kill_timeout, 1_200_000 + AFTER_DRAIN_MS);
    }
  });

  it('take a relative configuration file of the shell from the shell’s folder', (t) => {
    const file = join(cwd, 'shell.json');
    writeFileSync(file, '{}');
    process.env['PM2_ENVOY_CONFIG'] = relative(process.cwd(), file);
    t.after(() => delete process.env['PM2_ENVOY_CONFIG']);
    for (const app of envoyApps({ cwd: '/' })) {
      assert.equal(app.env['PM2_ENVOY_CONFIG'], file);
    }
  });

  it('do not copy the whole environment of the shell into pm2', () => {
    for (const app of appsWith({ A: 'b' })) {
      assert.deepEqual(app.env, { A: 'b', PM2ENVOY_PROJECT: cwd });
    }
  });

  it('work in the folder that they are given', () => {
    for (const app of appsWith()) assert.equal(app.cwd, cwd);
    for (const app of envoyApps({ cwd: '.' })) assert.equal(app.cwd, process.cwd());
  });

  it('refuse a configuration that can’t work before anything starts', () => {
    const refused = (env: Record<string, string>, expected: RegExp) =>
      assert.throws(
        () => appsWith(env),
        (error: unknown) =>
          isPm2EnvoyError(error, 'config-invalid') && expected.test(error.message),
      );
    refused({ PM2_ENVOY_DRAIN_TIMEOUT: '30s' }, /check-delay/);
    refused({ PM2_ENVOY_CHECK_DELAY: '5' }, /did you mean "5s"/);
    refused({ PM2_ENVOY_CONFIG: join(cwd, 'missing.json') }, /missing\.json/);
    refused({ PM2_ENVOY_NONSENSE: '1' }, /not a known key/);
  });

  it('refuse it with the message alone, for pm2 prints the stack', () => {
    assert.throws(
      () => appsWith({ PM2_ENVOY_NONSENSE: '1' }),
      (error: Error) => error.stack === `${error.name}: ${error.message}`,
    );
  });
});

describe('drainLimitMs', () => {
  it('is the drain that fits into the kill_timeout which pm2 has for this app', () => {
    const limitOf = (killMs: number) => drainLimitMs({ pm_id: '0', kill_timeout: String(killMs) });
    assert.equal(limitOf(300_000 + AFTER_DRAIN_MS), 300_000);
    assert.equal(limitOf(10_000), 7_500);
  });

  it('is never below a second, however short kill_timeout is', () => {
    assert.equal(drainLimitMs({ pm_id: '0', kill_timeout: '1300' }), 1_000);
    assert.equal(drainLimitMs({ pm_id: '0', kill_timeout: '0' }), 1_000);
  });

  it('is unknown outside pm2, and where pm2 names no time', () => {
    assert.equal(drainLimitMs({}), undefined);
    assert.equal(drainLimitMs({ kill_timeout: '90000' }), undefined);
    assert.equal(drainLimitMs({ pm_id: '0' }), undefined);
    assert.equal(drainLimitMs({ pm_id: '0', kill_timeout: 'soon' }), undefined);
  });
});
