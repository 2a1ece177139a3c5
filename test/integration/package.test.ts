import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, it } from 'node:test';
import { makeFolder } from '../support/folder.js';

const ROOT = resolve(import.meta.dirname, '../..');
const MANIFEST = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
  exports: Record<string, { types?: string; default?: string } | string>;
  files: string[];
};

describe('the package', () => {
  const files = packed();

  it('has what the manifest names, and nothing for those who build it', () => {
    const tops = new Set(files.map((file) => file.split('/')[0]));
    const named = MANIFEST.files.filter((name) => !name.startsWith('!'));
    assert.deepEqual([...tops].sort(), [...named, 'package.json'].sort());
    const stray = files.filter((file) => /\.map$|\.test\.|(^|\/)\.|\.log$|node_modules/.test(file));
    assert.deepEqual(stray, []);
  });

  it('has every file that its exports and its command lead to', () => {
    const targets = Object.values(MANIFEST.exports).flatMap((target) =>
      typeof target === 'string' ? [target] : [target.types ?? '', target.default ?? ''],
    );
    for (const target of [...targets, './bin/pm2-envoy.js', './dist/apps/runner.js']) {
      assert.ok(files.includes(target.slice(2)), target);
    }
  });

  it('has no source map, and no link to one', () => {
    const linked = files.filter(
      (file) =>
        file.endsWith('.js') &&
        readFileSync(join(ROOT, file), 'utf8').includes('//# sourceMappingURL='),
    );
    assert.deepEqual(linked, []);
  });

  it('compiles in a project that uses all of its types, also with those of the package checked', (t) => {
    const { path: folder, remove } = makeFolder();
    t.after(remove);
    mkdirSync(join(folder, 'node_modules'));
    symlinkSync(ROOT, join(folder, 'node_modules/pm2-envoy'));
    writeFileSync(
      join(folder, 'plugin.mts'),
      `import { envoyApps, Pm2EnvoyError, type Config, type HookContext, type Plugin, type PluginHost, type PluginSchema, type Status } from 'pm2-envoy';
      import * as command from 'pm2-envoy/command';
      import * as webhook from 'pm2-envoy/webhook';
      import { createTestHost } from 'pm2-envoy/testing';
      export class Announce implements Plugin {
        static schema: PluginSchema = { file: { format: 'path', doc: 'Where to.' } };
        hooks = { 'after:shutdown:finish': ({ drain, log }: HookContext) => log.info(String(drain?.connectionsLeft)) };
        constructor(readonly host: PluginHost, readonly options: Readonly<Record<string, unknown>>) {}
      }
      export const all = [envoyApps, Pm2EnvoyError, command, webhook, () => createTestHost(Announce, { file: '/a' }).run('shutdown')];
      export type Used = Config | Status;\n`,
    );
    execFileSync(
      process.execPath,
      [
        join(ROOT, 'node_modules/typescript/bin/tsc'),
        ...['--noEmit', '--strict', '--module', 'nodenext', '--target', 'es2023'],
        ...['--typeRoots', join(ROOT, 'node_modules/@types'), '--types', 'node', 'plugin.mts'],
      ],
      { cwd: folder, stdio: 'pipe', encoding: 'utf8' },
    );
  });
});

/** What `npm pack` would put into the tarball. */
function packed(): string[] {
  const text = execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], {
    cwd: ROOT,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const [pack] = Object.values(JSON.parse(text) as object).flat() as {
    files: { path: string }[];
  }[];
  return (pack?.files ?? []).map(({ path }) => path);
}
