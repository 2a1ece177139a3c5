import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { preparePm2, type TestPm2 } from '../support/pm2.js';
import { inTerminal } from '../support/terminal.js';
import { patiently } from '../support/wait.js';

const ROOT = resolve(import.meta.dirname, '../..');
const ENDS = { commonjs: 'js', esm: 'mjs', json: 'json', yaml: 'yaml' };

/** In a folder from which Node does not find pm2-envoy, as after `npm install --global`. */
describe('pm2-envoy init', () => {
  let pm2: TestPm2;
  before(async () => {
    pm2 = await preparePm2();
  });
  after(() => pm2.stop());

  /** What is printed is what stdout has: the rest is said on stderr. */
  const init = async (...words: string[]): Promise<string> => {
    const { code, stdout, stderr } = await pm2.cli('init', ...words);
    assert.equal(code, 0, stderr);
    return stdout;
  };
  const names = async (): Promise<string[]> => {
    const list: { name: string }[] = JSON.parse(await pm2.pm2('jlist'));
    return list.map(({ name }) => name).sort();
  };

  for (const [format, end] of Object.entries(ENDS)) {
    it(`prints a file in ${format} that pm2 starts`, async () => {
      const file = join(pm2.folder, `ecosystem.config.${end}`);
      writeFileSync(file, await init('--format', format, '--check-delay', '1s'));
      await pm2.pm2('start', file);
      await pm2.untilReady();
      assert.deepEqual(await names(), ['envoy', 'envoy-manager']);
      const { stdout } = await pm2.cli('config');
      assert.match(stdout, /check-delay +1s +PM2_ENVOY_CHECK_DELAY/);
      await pm2.pm2('delete', 'all');
    });
  }

  it('with --name: apps, run directory and port of their own', async () => {
    const file = join(pm2.folder, 'edge.config.js');
    const { PM2_ENVOY_CONFIG: _, ...env } = pm2.env;
    const script = execFileSync(
      process.execPath,
      [pm2.cliPath, 'init', '--name', 'edge', '--envoy-config', 'envoy.yaml'],
      { cwd: pm2.folder, env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] },
    );
    assert.match(script, /name: 'edge'/);
    assert.match(script, /PM2_ENVOY_RUN_DIR: '\.edge'/);
    const port = /PM2_ENVOY_SERVE_PORT: '(\d+)'/.exec(script)?.[1];
    writeFileSync(file, script);
    await pm2.pm2('start', file);
    await patiently('/readyz', async () => (await fetch(`http://127.0.0.1:${port}/readyz`)).ok);
    assert.deepEqual(await names(), ['edge', 'edge-manager']);
    const status = await pm2.cli('status', '--app', 'edge');
    assert.match(status.stdout, /LIVE, generation 1/, status.stderr);
    const { stdout: settings } = await pm2.cli('config', '--app', 'edge');
    assert.match(settings, /run-dir +\.edge +PM2_ENVOY_RUN_DIR/);
    const other = await pm2.cli('doctor', '--app', 'inner');
    assert.equal(other.code, 5);
    assert.match(other.stderr, /no Envoy as the app inner; .* there: edge, edge-manager/);
    const bootstrap = join(pm2.folder, 'envoy.yaml');
    const served = readFileSync(bootstrap);
    writeFileSync(bootstrap, 'static_resources: {listeners: 5}');
    await pm2.pm2('restart', 'edge');
    const { stdout: findings } = await pm2.cli('doctor', '--app', 'edge');
    writeFileSync(bootstrap, served);
    assert.match(findings, /the last reload failed/);
    assert.match(findings, /-> correct what it names \(`pm2 logs edge` has more\)/);
    await pm2.pm2('delete', 'all');
  });

  it('imports by name where the folder has pm2-envoy, in the folder’s own kind of module', () => {
    const folder = join(pm2.folder, 'project');
    mkdirSync(join(folder, 'node_modules'), { recursive: true });
    symlinkSync(ROOT, join(folder, 'node_modules/pm2-envoy'));
    const print = (type: string): string => {
      writeFileSync(join(folder, 'package.json'), JSON.stringify({ type }));
      return execFileSync(process.execPath, [pm2.cliPath, 'init'], {
        ...{ cwd: folder, env: pm2.env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] },
      });
    };
    assert.match(print('module'), /^import \{ envoyApps \} from 'pm2-envoy';/);
    assert.match(print('commonjs'), /^const \{ envoyApps \} = require\('pm2-envoy'\);/);
  });

  it('imports by path where only NODE_PATH has it, which pnpm sets for a global install: pm2 has none', () => {
    const path = join(pm2.folder, 'global');
    mkdirSync(path);
    symlinkSync(ROOT, join(path, 'pm2-envoy'));
    const text = execFileSync(process.execPath, [pm2.cliPath, 'init', '--format', 'commonjs'], {
      ...{ cwd: path, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] },
      env: { ...pm2.env, NODE_PATH: path },
    });
    assert.match(text, /require\('\/.*\/dist\/index\.js'\)/);
  });

  it('says which names pm2 takes where stdout goes to a file, and what to save it as on a terminal', async () => {
    const { stderr } = await pm2.cli('init', '--format', 'json');
    assert.match(stderr, /^`pm2 start` takes the file where its name ends with \.config\.json$/m);
    assert.doesNotMatch(stderr, /save it/);
    await inTerminal(
      pm2,
      ['init', '--format', 'yaml'],
      async (terminal) => {
        await terminal.shows(/^save it as ecosystem\.config\.yaml in .*`pm2 start ecosystem/);
        assert.equal(await terminal.ended, 0);
      },
      { size: { width: 300, height: 80 } },
    );
  });

  it('says that the bootstrap is missing which no option names', async () => {
    const missing = /^there is no \S+\/config\/envoy\.yaml, .*`--envoy-config`/m;
    const { PM2_ENVOY_CONFIG: config } = pm2.env;
    Object.assign(pm2.env, { PM2_ENVOY_CONFIG: '' });
    try {
      const unset = await pm2.cli('init');
      assert.equal(unset.code, 0, unset.stderr);
      assert.match(unset.stderr, missing);
      const foreign = await pm2.cli('init', '--admin-address', 'http://127.0.0.1:9901');
      const named = await pm2.cli('init', '--envoy-config', 'envoy.yaml');
      for (const { stderr } of [foreign, named]) assert.doesNotMatch(stderr, missing);
    } finally {
      Object.assign(pm2.env, { PM2_ENVOY_CONFIG: config });
    }
  });

  it('refuses another format with 2, and a bad setting with 78', async () => {
    assert.equal((await pm2.cli('init', '--format', 'toml')).code, 2);
    assert.equal((await pm2.cli('init', '--check-delay', '5')).code, 78);
  });
});
