import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, it } from 'node:test';
import { isAlive } from '../../src/host/process-identity.js';
import { cluster, httpTo, listener, writeBootstrap } from '../support/bootstrap.js';
import { startTestEnvoy } from '../support/envoy.js';
import { preparePm2, withPm2 } from '../support/pm2.js';
import { inTerminal } from '../support/terminal.js';
import { patiently } from '../support/wait.js';

const ECOSYSTEM = resolve(import.meta.dirname, '../../ecosystem.config.js');

interface Found {
  findings: { level: string; topic: string; message: string; remedy?: string }[];
}

describe('pm2-envoy doctor', { concurrency: 2 }, () => {
  it('finds everything well, as people and programs read it', () =>
    withPm2({}, async (pm2) => {
      const { code, stdout } = await pm2.cli('doctor');
      assert.match(stdout, /generation 1 is LIVE/);
      assert.doesNotMatch(stdout, /PROBLEM/);
      assert.equal(code, 0);
      const { findings } = JSON.parse((await pm2.cli('doctor', '--json')).stdout) as Found;
      for (const topic of ['pm2', 'configuration', 'timers', 'envoy', 'manager', 'kernel']) {
        assert.ok(
          findings.some((finding) => finding.topic === topic),
          topic,
        );
      }
    }));

  it('folds at the width of the terminal, and so does config', () =>
    withPm2({}, async (pm2) => {
      const looks = [
        ['doctor', '--grace-period', '45s'],
        ['config', '--check-delay', '5s'],
      ].flatMap((args) => [80, 40].map((width) => ({ args, width })));
      for (const { args, width } of looks) {
        await inTerminal(
          pm2,
          args,
          async (terminal) => {
            await terminal.ended;
            const lines = terminal.written().trimEnd().split('\r\n');
            assert.ok(lines.length > 20, lines.join('\n'));
            // A path or a command stays in one piece, to be copied.
            const tooWide = lines.filter(
              (line) => line.length > width && / /.test(line.trim().replace(/^`.*`\S*$/, '')),
            );
            assert.deepEqual(tooWide, [], `${args[0]} at ${width}`);
          },
          { size: { width, height: 60 } },
        );
      }
    }));

  it('finds a run directory whose path is too long, which no runner takes', () =>
    withPm2(
      {},
      async (pm2) => {
        const { code, stdout } = await pm2.cli('doctor', '--run-dir', `/tmp/${'long'.repeat(20)}`);
        assert.equal(code, 1);
        assert.match(stdout, /PROBLEM run-dir +\/tmp\/long.*: its path is longer than \d+ bytes/);
      },
      false,
    ));

  it('says what a grace period cuts, and refuses one without a unit', () =>
    withPm2({ 'drain-timeout': '40s' }, async (pm2) => {
      assert.match((await pm2.cli('doctor', '--grace-period', '2m')).stdout, /2m covers/);
      const short = await pm2.cli('doctor', '--grace-period', '45s');
      assert.match(short.stdout, /warning timers +a grace period of 45s may end/);
      assert.match(short.stdout, /-> make it at least 54s, or drain-timeout at most 33\.75s/);
      assert.equal(short.code, 0);
      const wrong = await pm2.cli('doctor', '--grace-period', '45');
      assert.equal(wrong.code, 78);
      assert.match(wrong.stderr, /did you mean "45s"/);
    }));

  it('finds that Envoy still runs with the drain time of its start', () =>
    withPm2({}, async (pm2) => {
      const { stdout, code } = await pm2.cli('doctor', '--envoy-drain-time', '20m');
      assert.doesNotMatch(stdout, /drain time of/, 'the apps have their own settings');
      assert.equal(code, 0);
      const file = String(pm2.env['PM2_ENVOY_CONFIG']);
      writeFileSync(file, JSON.stringify({ ...pm2.settings, 'envoy-drain-time': '20m' }));
      const changed = await pm2.cli('doctor');
      assert.match(
        changed.stdout,
        /warning timers +generation 1 runs with a drain time of 10m; envoy-drain-time is 20m now\n +-> `pm2-envoy redeploy`/,
      );
    }));

  it('asks an Envoy of someone else for its drain time', async () => {
    const envoy = await startTestEnvoy({ args: ['--drain-time-s', '60'] });
    const pm2 = await preparePm2({ 'admin-address': envoy.adminUrl, 'drain-timeout': '5m' });
    try {
      const { stdout } = await pm2.cli('doctor');
      assert.match(
        stdout,
        /warning timers +with envoy-drain-time 1m .* active websockets too, from 40s on/,
      );
    } finally {
      await pm2.stop();
      await envoy.stop();
    }
  });

  it('finds a bootstrap that the next reload would refuse', () =>
    withPm2({}, async (pm2) => {
      writeFileSync(join(pm2.folder, 'envoy.yaml'), 'nonsense: 1\n');
      const { code, stdout } = await pm2.cli('doctor', '--validate');
      assert.equal(code, 1);
      assert.match(stdout, /PROBLEM configuration +Envoy refuses the bootstrap file/);
      // Not asked for, it does not start another Envoy beside the one that serves.
      const unasked = await pm2.cli('doctor');
      assert.match(unasked.stdout, /^ok +configuration +valid; Envoy .* was not asked to check/m);
    }));

  it('finds options that a plugin will refuse', () =>
    withPm2({}, async (pm2) => {
      const hooks = { 'before:shutdown:clsoe': 'http://127.0.0.1:9/' };
      const plugins = [['pm2-envoy/webhook', { hooks }]];
      const file = String(pm2.env['PM2_ENVOY_CONFIG']);
      writeFileSync(file, JSON.stringify({ ...pm2.settings, plugins }));
      // This shell has other settings than the app.
      delete pm2.env['PM2_ENVOY_CONFIG'];
      const { code, stdout } = await pm2.cli('doctor', '--run-dir', `${pm2.settings['run-dir']}`);
      assert.match(stdout, /PROBLEM configuration +.*did you mean before:shutdown:close/);
      assert.equal(code, 1);
    }));

  it('finds an Envoy without a runner, and one that hangs', () =>
    withPm2({}, async (pm2) => {
      const [generation] = pm2.generations();
      assert.ok(generation);
      await pm2.pm2('stop', 'envoy-manager');
      await pm2.killDaemon();
      await patiently('it to be orphaned', () => pm2.generations()[0]?.orphaned);
      const { code, stdout } = await pm2.cli('doctor');
      assert.equal(code, 1);
      assert.match(stdout, /PROBLEM pm2 +pm2 at .*no daemon listens there/);
      assert.match(
        stdout,
        /warning envoy +generation 1 has no runner.*\n +-> `pm2 start ecosystem.config.js` takes over/,
      );
      assert.match(stdout, /PROBLEM manager +the manager at .* can't be reached/);
      process.kill(generation.envoy.pid, 'SIGSTOP');
      assert.match((await pm2.cli('doctor')).stdout, /PROBLEM envoy +generation 1 does not answer/);
      process.kill(generation.envoy.pid, 'SIGCONT');
      assert.equal(isAlive(generation.envoy), true, 'the doctor only looks');
    }));

  it('finds another Envoy on the same port, which no one else would notice', () =>
    withPm2({}, async (pm2) => {
      const other = await startTestEnvoy({
        bootstrap: {
          static_resources: {
            listeners: [listener('web', pm2.ports.http, httpTo('http'))],
            clusters: [cluster('http', pm2.backend.httpPort)],
          },
        },
      });
      try {
        const { stdout } = await pm2.cli('doctor');
        assert.match(
          stdout,
          new RegExp(
            `PROBLEM envoy +another program \\(pid ${other.pid}\\) also listens on port ${pm2.ports.http}`,
          ),
        );
      } finally {
        await other.stop();
      }
    }));

  it('says what an Envoy waits for that is still starting', () =>
    withPm2(
      {},
      async (pm2) => {
        const xds = {
          api_type: 'GRPC',
          transport_api_version: 'V3',
          grpc_services: [{ envoy_grpc: { cluster_name: 'xds' } }],
        };
        writeBootstrap(join(pm2.folder, 'envoy.yaml'), pm2.ports, pm2.backend, {
          node: { id: 'test', cluster: 'test' },
          dynamic_resources: {
            lds_config: { api_config_source: xds, initial_fetch_timeout: '0s' },
          },
          static_resources: { clusters: [cluster('xds', 9)] },
        });
        void pm2.pm2('start', ECOSYSTEM).catch(() => undefined);
        await patiently('Envoy to answer', async () =>
          /warning envoy +generation \d+ is INITIALIZING\n +-> it waits for its configuration/.test(
            (await pm2.cli('doctor')).stdout,
          ),
        );
      },
      false,
    ));

  it('checks the bootstrap although there is no run directory yet', async () => {
    const pm2 = await preparePm2();
    try {
      const { stdout } = await pm2.cli('doctor');
      assert.match(stdout, /^ok +configuration valid/m);
    } finally {
      await pm2.stop();
    }
  });

  it('says that nothing has been started yet, and what starts it', async () => {
    const pm2 = await preparePm2();
    try {
      const { code, stdout } = await pm2.cli('doctor');
      assert.equal(code, 1);
      assert.match(stdout, /PROBLEM pm2 +nothing has been started yet: no pm2 runs in \S+pm2, and/);
      assert.match(stdout, /-> `pm2 start ecosystem.config.js` starts it/);
      // One finding and one remedy: there is nothing more to say of an Envoy, nor of a manager.
      assert.match(stdout, /^1 problem, /m);
      assert.doesNotMatch(stdout, /^\S+ +(envoy|manager) /m);

      // A shell without the settings that the ecosystem file may have.
      Object.assign(pm2.env, { PM2_ENVOY_RUN_DIR: pm2.settings['run-dir'], PM2_ENVOY_CONFIG: '' });
      const { stdout: unset } = await pm2.cli('doctor');
      assert.match(
        unset,
        /warning configuration this shell sets no envoy-config, and there is no /,
      );
      assert.match(unset, /^1 problem, /m);
      const named = await pm2.cli('doctor', '--envoy-config', '/nowhere.yaml');
      assert.match(
        named.stdout,
        /PROBLEM configuration the bootstrap file \/nowhere.yaml .*no such/,
      );
      assert.doesNotMatch(unset + named.stdout, /ENOENT/);
    } finally {
      await pm2.stop();
    }
  });
});
