import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { makeFolder } from '../support/folder.js';

const ROOT = resolve(import.meta.dirname, '../..');
const CLI = join(ROOT, 'bin/pm2-envoy.js');

/** A folder of a user's, with pm2-envoy in it or not, and what is run there. */
function project(t: TestContext, isInstalled: boolean) {
  const { path: folder, remove } = makeFolder();
  t.after(remove);
  if (isInstalled) {
    mkdirSync(join(folder, 'node_modules'));
    symlinkSync(ROOT, join(folder, 'node_modules/pm2-envoy'));
  }
  const run = (program: string, words: readonly string[], cwd = folder, plugins = '') => {
    // Not those of an app that this machine may run.
    const own = { PM2_HOME: join(folder, 'pm2'), PM2_ENVOY_RUN_DIR: join(folder, 'run') };
    const env = { ...process.env, ...own, NO_COLOR: '1' };
    const done = spawnSync(program, words, {
      ...{ cwd, encoding: 'utf8', env: { ...env, PM2_ENVOY_PLUGINS: plugins } },
    });
    return { code: done.status, out: done.stdout, said: done.stderr };
  };
  const cli = (words: string, ...plugins: unknown[]) =>
    run(process.execPath, [CLI, ...words.split(' ')], folder, JSON.stringify(plugins));
  return { folder, run, cli };
}

describe('pm2-envoy plugin create', () => {
  it('makes a plugin whose test runs, and which pm2-envoy takes', (t) => {
    const { folder, run, cli } = project(t, true);
    const { code, out } = cli('plugin create tell-us');
    assert.equal(code, 0);
    assert.equal(out, 'tell-us is made; its test: cd tell-us && npm test\n');
    assert.deepEqual(readdirSync(join(folder, 'tell-us')).sort(), [
      'index.js',
      'package.json',
      'test.js',
    ]);
    const tested = run('npm', ['test'], join(folder, 'tell-us'));
    assert.equal(tested.code, 0, tested.out);
    const listed = cli('plugin list', ['./tell-us/index.js', { greeting: 'moin' }]);
    assert.equal(listed.code, 0, listed.out);
    const { said } = cli('tell-us --to Envoy', './tell-us/index.js');
    assert.match(said, /hello, Envoy/);
  });

  it('says how its test finds pm2-envoy where Node does not', (t) => {
    const { folder, cli } = project(t, false);
    assert.match(
      cli('plugin create tell-us').out,
      /cd tell-us && npm install --no-save \/.+ && npm test/,
    );
    // pnpm sets NODE_PATH for a global install, and ES modules are not found by that.
    mkdirSync(join(folder, 'global'));
    symlinkSync(ROOT, join(folder, 'global/pm2-envoy'));
    process.env['NODE_PATH'] = join(folder, 'global');
    t.after(() => delete process.env['NODE_PATH']);
    assert.match(cli('plugin create tell-them').out, /cd tell-them && npm install --no-save /);
  });

  it('refuses what is no name, or is there', (t) => {
    const { folder, cli } = project(t, false);
    mkdirSync(join(folder, 'taken'));
    for (const name of ['Tell', '../tell', 'taken'])
      assert.equal(cli(`plugin create ${name}`).code, 2);
  });
});

describe('a command of a plugin', () => {
  it('runs in the only plugin that is constructed, with the options of the call', (t) => {
    const { folder, cli } = project(t, false);
    const plugin = join(folder, 'once.cjs');
    writeFileSync(
      plugin,
      `module.exports = class {
        constructor(host) {
          console.log('constructed');
          this.commands = { once: { usage: 'once', lifecycleEvents: ['say'] } };
          this.hooks = { 'once:say': () => console.log('delay', host.config.checkDelayMs) };
        }
      };`,
    );
    const { code, out, said } = cli('once --check-delay 7s', plugin);
    assert.equal(code, 0, said);
    assert.equal(out, 'constructed\ndelay 7000\n');
    assert.equal(cli('--help', plugin).out.match(/constructed/g)?.length, 1);
  });
});

describe('pm2-envoy plugin list', () => {
  const CONSUL = join(ROOT, 'docs/examples/consul-plugin.js');

  it('shows hooks, commands and options', (t) => {
    const { code, out } = project(t, false).cli('plugin list', [CONSUL, { port: 443 }]);
    assert.equal(code, 0, out);
    const lines = out.split('\n');
    assert.equal(lines[0], CONSUL);
    for (const line of [
      '  hook     before:shutdown:fail-health (required)',
      '  command  consul status: Show what the Consul agent knows of this host',
      '  option   port: Port that clients connect to. Required: a port, 0 to 65535.',
      '  option   service: Name of the service. Allowed: a text, not empty. Default: envoy.',
      'not used: pm2-envoy/command, pm2-envoy/webhook',
    ]) {
      assert.ok(lines.includes(line), `${line} in\n${out}`);
    }
  });

  it('shows what is wrong with one beside the others, with 78', (t) => {
    const { code, out } = project(t, false).cli('plugin list --json', CONSUL, './nowhere.js');
    assert.equal(code, 78);
    const { plugins } = JSON.parse(out);
    assert.match(plugins[0].problem, /"port" is missing/);
    assert.equal(plugins[0].options.service.default, 'envoy');
    assert.match(plugins[1].problem, /can't be loaded/);
  });

  it('is not needed to find a plugin’s commands: --help has them, and says why there are none', (t) => {
    const { cli } = project(t, false);
    const { out } = cli('--help', [CONSUL, { port: 443 }]);
    assert.match(out, /Commands of plugins:\n +consul +Commands for consul/);
    assert.match(cli('consul --help', [CONSUL, { port: 443 }]).out, /status.*Show what the Consul/);
    assert.match(cli('--help', CONSUL).said, /no plugin was loaded: .*"port" is missing/);
  });
});
