import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type LoadedConfig, loadConfig } from '../../src/config/load.js';
import { isPm2EnvoyError } from '../../src/errors.js';
import type { Pm2Process } from '../../src/pm2/daemon.js';
import { chooseRunner } from '../../src/pm2/find-app.js';

function runner(name: string, servePort?: number): Pm2Process {
  const env: Record<string, string> = { PM2_ENVOY_RUN_DIR: `/run/${name}` };
  if (servePort !== undefined) env['PM2_ENVOY_SERVE_PORT'] = String(servePort);
  return { name, env, cwd: '/', args: [] } as unknown as Pm2Process;
}

function shell(env: Record<string, string> = {}): LoadedConfig['settings'] {
  return loadConfig({ env }).settings;
}

describe('chooseRunner', () => {
  it('takes the only one, wherever it serves, but not where the shell names another manager', () => {
    const only = runner('edge', 9_000);
    assert.equal(chooseRunner([only], shell()), only);
    assert.equal(chooseRunner([only], shell({ PM2_ENVOY_SERVE_PORT: '9000' })), only);
    assert.equal(chooseRunner([only], shell({ PM2_ENVOY_SERVE_PORT: '9001' })), undefined);
    assert.equal(chooseRunner([], shell()), undefined);
  });

  it('takes of several the one whose manager the shell would ask', () => {
    const [edge, inner] = [runner('edge', 9_000), runner('inner')];
    assert.equal(chooseRunner([edge, inner], shell()), inner);
    assert.equal(chooseRunner([edge, inner], shell({ PM2_ENVOY_SERVE_PORT: '9000' })), edge);
  });

  it('takes none of several where the shell says nothing, and says how to name one', () => {
    for (const ports of [
      [9_000, 9_001],
      [undefined, undefined],
    ]) {
      assert.throws(
        () => chooseRunner([runner('edge', ports[0]), runner('inner', ports[1])], shell()),
        (error: unknown) =>
          isPm2EnvoyError(error, 'config-invalid') &&
          /several Envoys.*\(--app edge, --app inner\), or set run-dir$/.test(error.message),
      );
    }
  });

  it('takes instances of one app for one', () => {
    const [first, second] = [runner('edge'), runner('edge')];
    assert.equal(chooseRunner([first, second], shell()), first);
  });
});
