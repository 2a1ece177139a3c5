import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, realpathSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { pathToFileURL } from 'node:url';
import { makeFolder } from '../support/folder.js';
import { withPm2 } from '../support/pm2.js';

const ROOT = resolve(import.meta.dirname, '../..');
const { pack } = (await import(pathToFileURL(join(ROOT, 'scripts/package-check.js')).href)) as {
  pack(folder: string): string;
};

/** Below a folder, where the command line is then. */
interface Install {
  command: readonly string[];
  bin: string;
  isGlobal?: boolean;
}

/** None of them runs a script of a package. */
const INSTALLS: Readonly<Record<string, (folder: string) => Install>> = {
  npm: () => ({ command: ['npm', 'install', '--no-audit', '--no-fund'], bin: BIN }),
  'npm --global': (folder) => ({
    command: ['npm', 'install', '--no-audit', '--no-fund', '--global', '--prefix', folder],
    bin: 'bin/pm2-envoy',
    isGlobal: true,
  }),
  pnpm: () => ({ command: ['pnpm', 'add'], bin: BIN }),
  'pnpm --global': () => ({
    command: ['pnpm', 'add', '--global'],
    bin: 'pnpm/pm2-envoy',
    isGlobal: true,
  }),
  yarn: () => ({ command: ['yarn', 'add', '--no-lockfile'], bin: BIN }),
  'yarn global': (folder) => ({
    command: ['yarn', 'global', 'add', '--prefix', folder, '--global-folder', join(folder, 'all')],
    bin: 'bin/pm2-envoy',
    isGlobal: true,
  }),
};
const BIN = 'node_modules/.bin/pm2-envoy';

describe('the packed tarball, installed with --ignore-scripts', () => {
  const { path: folder, remove } = makeFolder();
  let tarball: string;
  before(() => {
    tarball = pack(folder);
    writeFileSync(join(folder, 'package.json'), '{ "private": true }');
    const words = ['install', '--no-audit', '--no-fund', 'pnpm@10.34.8', 'yarn@1.22.22'];
    execFileSync('npm', words, { cwd: folder, stdio: 'pipe' });
  });
  after(remove);

  for (const [how, installOf] of Object.entries(INSTALLS)) {
    it(`by ${how}: its command line and its apps run`, () =>
      withPm2(
        {},
        async (pm2) => {
          const own = join(folder, how.replaceAll(' ', ''));
          mkdirSync(own);
          const { command, bin, isGlobal } = installOf(own);
          const home = join(own, 'pnpm');
          const env = {
            ...process.env,
            PNPM_HOME: home,
            npm_config_store_dir: join(folder, 'store'),
            YARN_CACHE_FOLDER: join(folder, 'cache'),
            PATH: [join(folder, 'node_modules/.bin'), home, process.env['PATH']].join(':'),
          };
          if (!isGlobal) writeFileSync(join(own, 'package.json'), '{ "private": true }');
          const [program = '', ...words] = command;
          execFileSync(program, [...words, '--ignore-scripts', tarball], {
            cwd: own,
            env,
            stdio: 'pipe',
          });
          const run = (...args: string[]): string =>
            execFileSync(join(own, bin), args, {
              cwd: own,
              env: { ...pm2.env, PATH: env.PATH },
              encoding: 'utf8',
              stdio: ['ignore', 'pipe', 'pipe'],
            });
          assert.match(run('--version'), /^\d+\.\d+\.\d+\n$/);
          const file = join(own, 'ecosystem.config.cjs');
          writeFileSync(file, run('init', '--format', 'commonjs'));
          if (!isGlobal) loads(own);
          await pm2.pm2('start', file);
          await pm2.untilReady();
          const list: { pm2_env: { pm_exec_path: string } }[] = JSON.parse(await pm2.pm2('jlist'));
          for (const { pm2_env } of list) {
            const script = realpathSync(pm2_env.pm_exec_path);
            assert.ok(script.startsWith(realpathSync(own)), `${script} was installed`);
          }
          assert.match(run('status'), /LIVE, generation 1/);
        },
        false,
      ));
  }
});

/** For ES modules, and for CommonJS. */
function loads(folder: string): void {
  const show = 'console.log(typeof envoyApps)';
  for (const code of [
    ['--input-type=module', `--eval=import { envoyApps } from 'pm2-envoy'; ${show}`],
    ['--input-type=commonjs', `--eval=const { envoyApps } = require('pm2-envoy'); ${show}`],
  ]) {
    const said = execFileSync(process.execPath, code, { cwd: folder, encoding: 'utf8' });
    assert.equal(said, 'function\n');
  }
}
