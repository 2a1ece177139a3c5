import assert from 'node:assert/strict';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { describe, it } from 'node:test';
import { parse } from 'yaml';
import { type EcosystemFormat, FORMATS, renderEcosystem } from '../../src/cli/init/ecosystem.js';
import { envoyApps } from '../../src/pm2/apps.js';
import { makeFolder } from '../support/folder.js';

const ROOT = resolve(import.meta.dirname, '../..');
const ENDS = { commonjs: 'cjs', esm: 'mjs', json: 'json', yaml: 'yaml' };

describe('renderEcosystem', () => {
  const env = { PM2_ENVOY_CHECK_DELAY: '1s', PM2_ENVOY_IGNORE_LISTENERS: "it's\\one" };
  const render = (format: EcosystemFormat, folder: string, name?: string) =>
    renderEcosystem(format, {
      from: 'pm2-envoy',
      name,
      env,
      apps: envoyApps({ cwd: folder, env, ...(name === undefined ? {} : { name }) }),
    });

  for (const format of FORMATS) {
    it(`gives the same apps in ${format}`, async (t) => {
      const { path: folder, remove } = makeFolder();
      t.after(remove);
      mkdirSync(join(folder, 'node_modules'));
      symlinkSync(ROOT, join(folder, 'node_modules/pm2-envoy'));
      for (const name of [undefined, 'edge']) {
        const text = await render(format, folder, name);
        const file = join(folder, `${name}.config.${ENDS[format]}`);
        writeFileSync(file, text);
        const { apps } = format === 'yaml' ? parse(text) : createRequire(file)(file);
        const wanted = envoyApps({ cwd: folder, env, name: name ?? 'envoy' });
        assert.deepEqual(JSON.parse(JSON.stringify(apps)), JSON.parse(JSON.stringify(wanted)));
      }
    });
  }

  it('repeats nothing by reference: pm2 changes what it reads', async () => {
    assert.doesNotMatch(await render('yaml', '/srv'), /[&*]a1/);
  });
});
