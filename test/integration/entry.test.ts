import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { isTooOld } from '../../src/apps/entry.js';
import { makeFolder } from '../support/folder.js';
import { copyPackage } from '../support/package-copy.js';

const ROOT = resolve(import.meta.dirname, '../..');
const APPS = ['runner', 'manager'] as const;
const NAMES = { runner: 'envoy', manager: 'envoy-manager' };

function run(
  script: string,
  ...nodeArguments: string[]
): { status: number | null; lines: string[] } {
  const folder = makeFolder();
  const { status, stderr, stdout } = spawnSync(process.execPath, [...nodeArguments, script], {
    encoding: 'utf8',
    cwd: folder.path,
    env: { ...process.env, PM2_ENVOY_RUN_DIR: folder.path },
  });
  folder.remove();
  return { status, lines: `${stdout}${stderr}`.trim().split('\n') };
}

describe('what pm2 starts', () => {
  const folder = makeFolder();
  before(() => copyPackage(folder.path));
  after(folder.remove);

  for (const app of APPS) {
    it(`ends with 1 and one line where the package is not whole: ${app}`, () => {
      const broken = makeFolder();
      try {
        const { path } = copyPackage(join(broken.path, 'package'));
        spawnSync('rm', ['-r', join(path, 'dist/bundle')]);
        const { status, lines } = run(join(path, `dist/apps/${app}.js`));
        assert.equal(status, 1, lines.join('\n'));
        assert.equal(lines.length, 1, lines.join('\n'));
        const said = `pm2-envoy: the app ${NAMES[app]} can't be loaded: Cannot find module`;
        assert.ok(lines[0]?.startsWith(said), lines[0]);
      } finally {
        broken.remove();
      }
    });

    it(`ends with 78 and one line on a Node that is too old: ${app}`, () => {
      const old = `data:text/javascript,Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '18.20.4' } })`;
      const { status, lines } = run(join(folder.path, `dist/apps/${app}.js`), '--import', old);
      assert.equal(status, 78, lines.join('\n'));
      assert.equal(lines.length, 1, lines.join('\n'));
      const said = `pm2-envoy: the app ${NAMES[app]} needs Node 20.19 or later, and pm2's daemon runs Node 18.20.4`;
      assert.ok(lines[0]?.startsWith(said), lines[0]);
    });
  }

  it('needs the Node that package.json names', () => {
    const { engines } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
    assert.equal(engines.node, '>=20.19');
    for (const version of ['18.20.4', '20.0.0', '20.18.9']) assert.ok(isTooOld(version), version);
    for (const version of ['20.19.0', '22.0.0', '24.1.0']) assert.ok(!isTooOld(version), version);
  });
});
