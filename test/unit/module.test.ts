import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { loadConfig } from '../../src/config/load.js';
import { stepFor } from '../../src/pm2/module/keep-envoy.js';
import { openModuleState, withModuleSettings } from '../../src/pm2/module/state.js';
import { makeFolder } from '../support/folder.js';
import { makePm2Process } from './fakes.js';

const load = (settings: Record<string, unknown>, env: Record<string, string> = {}) =>
  loadConfig({ env: { ...env, 'pm2-envoy': JSON.stringify(settings) }, cwd: '/' });

describe('what pm2 set has set', () => {
  it('comes between file and environment', (t) => {
    const { path, remove } = makeFolder();
    t.after(remove);
    const file = join(path, 'file.json');
    writeFileSync(file, JSON.stringify({ 'check-delay': '1s', 'check-interval': '1s' }));
    const { settings } = load(
      { 'check-delay': '2s', 'quiet-period': '2s', config: file },
      { PM2_ENVOY_QUIET_PERIOD: '3s' },
    );
    const shown = (['check-interval', 'check-delay', 'quiet-period'] as const).map(
      (key) => `${settings[key].value} ${settings[key].source}`,
    );
    assert.deepEqual(shown, [
      `1s file ${file}`,
      '2s pm2 set pm2-envoy:check-delay',
      '3s PM2_ENVOY_QUIET_PERIOD',
    ]);
  });

  it('is text, and read as that of a variable', () => {
    const { config } = load({ 'serve-port': '0', 'envoy-args': '--concurrency 2' });
    assert.equal(config.servePort, 0);
    assert.deepEqual(config.envoyArgs, ['--concurrency', '2']);
  });

  it('is refused with the words that set it, and so is a relative path', () => {
    const refused = (settings: Record<string, unknown>, said: RegExp) =>
      assert.throws(() => load(settings), { code: 'config-invalid', message: said });
    refused(
      { 'chek-delay': '5s' },
      /pm2 set pm2-envoy:chek-delay is not a known key; did you mean pm2 set pm2-envoy:check-delay\?/,
    );
    refused({ 'check-delay': '5' }, /check-delay: "5" \(from pm2 set pm2-envoy:check-delay\) must/);
    for (const [key, value] of Object.entries({
      'envoy-config': 'envoy.yaml',
      'run-dir': './run',
      plugins: '/a.js,./b.js',
      config: 'file.json',
    })) {
      refused({ [key]: value }, new RegExp(`^${key}: .*pm2 set.* must be an absolute path`, 'm'));
    }
  });

  it('is nothing where pm2 has set nothing', () => {
    for (const text of ['', '{}', '[object Object]']) {
      assert.equal(
        loadConfig({ env: { 'pm2-envoy': text } }).settings['run-dir'].source,
        'default',
      );
    }
  });

  it('is what the command line goes by, once the module has accepted it', (t) => {
    const { path: home, remove } = makeFolder();
    t.after(remove);
    const env = { PM2_HOME: home };
    assert.equal(withModuleSettings(env), env);
    mkdirSync(join(home, 'pm2-envoy'));
    openModuleState(home).accept({ env: { 'pm2-envoy': '{"check-delay":"2s"}', OTHER: '1' } });
    const { settings } = loadConfig({ env: withModuleSettings(env) });
    assert.equal(settings['check-delay'].value, '2s');
    assert.equal(withModuleSettings({ ...env, 'pm2-envoy': '{}' })['pm2-envoy'], '{}');
    const mode = readFileSync(join(home, 'pm2-envoy/accepted.json'), 'utf8');
    assert.match(mode, /OTHER/);
  });
});

describe('stepFor', () => {
  const folder = '/home/pm2-envoy';
  const { config } = loadConfig({ env: {} });
  const foreign = loadConfig({ env: { PM2_ENVOY_ADMIN_ADDRESS: 'http://127.0.0.1:9901' } }).config;
  const step = (more: object | undefined, wanted = config) =>
    stepFor(
      more && makePm2Process({ cwd: folder, env: { PM2_ENVOY_RUNS: 'one' }, ...more }),
      { config: wanted, runs: 'one' },
      folder,
    );

  it('starts what is not there, and what has given up', () => {
    assert.deepEqual(step(undefined), { kind: 'start' });
    assert.deepEqual(step({ status: 'errored' }), { kind: 'start' });
    assert.deepEqual(step({ status: 'waiting restart' }), { kind: 'start' });
  });

  it('reloads what runs with something else only', () => {
    assert.deepEqual(step({}), { kind: 'none' });
    assert.deepEqual(step({ env: { PM2_ENVOY_RUNS: 'two' } }), { kind: 'reload' });
    assert.deepEqual(step({ env: {} }), { kind: 'reload' });
  });

  it('leaves what is somebody else’s, and what was stopped', () => {
    const reason = (found: ReturnType<typeof step>) => (found.kind === 'leave' ? found.reason : '');
    assert.match(reason(step({ cwd: '/srv/site' })), /an app envoy of its own .* leaves alone/);
    assert.match(reason(step({ status: 'stopped' })), /was stopped and stays so/);
    assert.match(reason(step({}, foreign)), /with admin-address Envoy is not the module's/);
    assert.deepEqual(step(undefined, foreign), { kind: 'none' });
  });
});
