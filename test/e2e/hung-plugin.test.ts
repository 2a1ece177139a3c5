import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { statusOf, withPm2 } from '../support/pm2.js';
import { patiently } from '../support/wait.js';

/** Neither its import nor what it has begun ends. */
const HUNG = `setInterval(() => {}, 1_000);
await new Promise(() => {});
export default class Hung {}`;

describe('a plugin whose import never ends', () => {
  it('costs a reload, and nothing else: Envoy keeps serving, and every command ends', () =>
    withPm2({}, async (pm2) => {
      const [before = assert.fail('there is no Envoy')] = pm2.generations();
      const plugin = join(pm2.folder, 'hung.mjs');
      writeFileSync(plugin, HUNG);
      writeFileSync(
        pm2.env['PM2_ENVOY_CONFIG'] ?? '',
        JSON.stringify({ ...pm2.settings, plugins: [plugin] }),
      );
      const reload = pm2.pm2('reload', 'envoy').catch((error: Error) => error);
      const [status, help, redeploy] = await Promise.all([
        pm2.cli('status'),
        pm2.cli('--help'),
        pm2.cli('redeploy'),
      ]);
      assert.equal(status.code, 0, status.stderr);
      assert.equal(help.code, 0);
      assert.notEqual(redeploy.code, 0);
      assert.ok((await reload) instanceof Error, 'pm2 reload says that it failed');
      const { failedReload, envoy, runner } = pm2.generations()[0] ?? assert.fail();
      assert.equal(envoy.pid, before.envoy.pid);
      assert.notEqual(runner.pid, before.runner.pid, 'the new runner answers for it');
      assert.match(failedReload?.reason ?? '', /hung.mjs can't be loaded: its import did not end/);
      assert.equal((await statusOf(pm2)).envoy.generation, before.number);

      // The manager is down, and the plugin still hangs: a drain needs neither.
      await pm2.pm2('stop', 'envoy-manager');
      const drained = await pm2.cli('shutdown');
      assert.equal(drained.code, 0, drained.stderr);
      assert.match(drained.stderr, /hung.mjs can't be loaded.*: draining without plugins/);
      await pm2.pm2('stop', 'envoy');
      await patiently('Envoy to have ended', () => pm2.generations().length === 0);
    }));
});
