import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { makeFolder } from '../support/folder.js';
import { preparePm2, withPm2 } from '../support/pm2.js';
import { patiently } from '../support/wait.js';

describe('an Envoy of another pm2 in the same run directory', () => {
  it('is not drained by a shell of this pm2 that names no run directory', async () => {
    const { path, remove } = makeFolder();
    const runDir = join(path, 'pm2-envoy');
    try {
      await withPm2({ 'run-dir': runDir }, async (first) => {
        const second = await preparePm2({ 'run-dir': undefined });
        second.env['XDG_RUNTIME_DIR'] = path;
        try {
          const { code, stderr } = await second.cli('shutdown');
          assert.equal(code, 78, stderr);
          assert.match(stderr, /not drained: the Envoy in the run directory .* another pm2/);
          for (const command of ['resume', 'redeploy']) {
            const { code, stderr } = await second.cli(command);
            assert.equal(code, 78, stderr);
            assert.match(stderr, /: the Envoy in the run directory .* another pm2/);
          }
          await first.untilReady();
          const named = await second.cli('shutdown', '--run-dir', runDir);
          assert.equal(named.code, 0, named.stderr);
        } finally {
          await second.stop();
        }
      });
    } finally {
      remove();
    }
  });

  it('is not the one that a plain shell means, though its manager serves at the same port', async () => {
    const { path, remove } = makeFolder();
    try {
      await withPm2({}, async (first) => {
        const second = await preparePm2({ 'serve-port': first.ports.serve });
        const { env } = second;
        try {
          await second.pm2('start', second.ecosystem);
          await patiently('its Envoy', () => second.generations().some(({ ready }) => ready));
          // As with an ecosystem file that has the settings.
          delete env['PM2_ENVOY_CONFIG'];
          Object.assign(env, {
            PM2_ENVOY_SERVE_PORT: String(first.ports.serve),
            XDG_RUNTIME_DIR: path,
          });
          const pids = second.generations().map(({ envoy }) => envoy.pid);
          const status = await second.cli('status', '--json');
          assert.equal(JSON.parse(status.stdout).envoy?.pid, pids[0], status.stderr);
          assert.equal((await second.cli('resume')).code, 0);
          const { code, stderr } = await second.cli('shutdown');
          assert.match(
            stderr,
            /another project's .*: draining Envoy directly, .* of the app envoy/,
          );
          assert.equal(code, 0, stderr);
          assert.equal((await first.http('GET', '/readyz')).status, 200);
          await assert.rejects(fetch(`http://127.0.0.1:${second.ports.http}/`));
        } finally {
          await second.stop();
        }
      });
    } finally {
      remove();
    }
  });

  it('is called that by doctor, redeploy and shutdown, with what to set', () =>
    withPm2({}, async (first) => {
      const runDir = String(first.settings['run-dir']);
      const second = await preparePm2({ 'run-dir': runDir });
      const belongs = new RegExp(
        `the Envoy in the run directory ${runDir} belongs to another pm2 \\(PM2_HOME ${first.env['PM2_HOME']}, .*; the pm2 of this shell is ${second.env['PM2_HOME']}`,
      );
      try {
        const before = await second.cli('doctor');
        assert.equal(before.code, 1);
        assert.match(before.stdout, new RegExp(`PROBLEM pm2 +${belongs.source}`));
        assert.match(before.stdout, /-> give the Envoy of this pm2 a run-dir of its own/);

        // Its runner refuses the run directory, and the first one goes on.
        await second.pm2('start', second.ecosystem).catch(() => undefined);
        await patiently('the refusal', () => second.log('envoy').includes('run directory'));
        assert.match((await second.cli('doctor')).stdout, belongs);
        assert.match((await second.cli('redeploy', '--dry-run')).stderr, belongs);

        const { stdout } = await first.cli('doctor');
        assert.match(stdout, /^0 problems/m);
        // A shell that names no pm2, and has none.
        Object.assign(second.env, { HOME: second.folder });
        delete second.env['PM2_HOME'];
        assert.doesNotMatch((await second.cli('doctor')).stdout, /another pm2/);
        second.env['PM2_HOME'] = `${second.folder}/pm2`;
        assert.match((await second.cli('shutdown')).stderr, belongs);
      } finally {
        await second.stop();
      }
    }));
});
