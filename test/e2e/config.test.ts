import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { withPm2 } from '../support/pm2.js';
import { letPass } from '../support/wait.js';

describe('pm2-envoy config', () => {
  it('shows what the running app has, says whose it is and where this shell differs', () =>
    withPm2({ 'check-delay': '0s', 'min-open-connections': 7 }, async (pm2) => {
      const file = String(pm2.env['PM2_ENVOY_CONFIG']);
      // Another shell, which knows only where to look.
      delete pm2.env['PM2_ENVOY_CONFIG'];
      pm2.env['PM2_ENVOY_RUN_DIR'] = String(pm2.settings['run-dir']);

      const { code, stdout, stderr } = await pm2.cli('config');
      assert.equal(code, 0, stderr);
      assert.match(stdout, /^min-open-connections +7 +/m);
      assert.ok(stdout.includes(file), stdout);
      assert.match(
        stderr,
        /these are the settings of the app envoy \(PM2_HOME .*\) that its next start will use; this shell has different ones: .*min-open-connections/,
      );

      const json = JSON.parse((await pm2.cli('config', '--json')).stdout);
      assert.equal(json['min-open-connections'].value, 7);

      const asked = await pm2.cli('config', '--min-open-connections', '3');
      assert.match(asked.stdout, /^min-open-connections +3 +--min-open-connections/m);

      // It answers late, as on a busy machine.
      process.kill(pm2.daemonPid(), 'SIGSTOP');
      const waiting = pm2.cli('config');
      await letPass(4_000);
      process.kill(pm2.daemonPid(), 'SIGCONT');
      assert.match((await waiting).stdout, /^min-open-connections +7 +/m);

      await pm2.pm2('kill');
      const without = await pm2.cli('config');
      assert.match(without.stdout, /^min-open-connections +0 +default/m);
      assert.match(without.stderr, /these are the settings of this shell/);
    }));
});
