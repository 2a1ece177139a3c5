import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { describe, it } from 'node:test';
import { makeFolder } from '../support/folder.js';

const DIST = resolve(import.meta.dirname, '../../dist');

/** What a file and all that it imports statically contain, and which packages they name. */
function loadedBy(files: readonly string[]): { text: string; packages: string[] } {
  const seen = new Map<string, string>();
  const packages: string[] = [];
  const load = (file: string): void => {
    if (seen.has(file)) return;
    const text = readFileSync(file, 'utf8');
    seen.set(file, text);
    // Static imports: bundled code has them at its beginning, and writes a dynamic one as import("…").
    for (const [, path = ''] of text.matchAll(/(?:^|;|\n)import(?:[^;"()]*from)?"([^"]+)"/g)) {
      if (path.startsWith('.')) load(join(dirname(file), path));
      else if (!isBuiltin(path)) packages.push(path);
    }
  };
  for (const file of files) load(file);
  return { text: [...seen.values()].join('\n'), packages };
}

/** Everything that an app loads when it starts: its file, what that imports, and `main` itself. */
function loadedAtStart(app: string): string {
  const entry = join(DIST, 'apps', `${app}.js`);
  const entered = readFileSync(entry, 'utf8');
  const imported = [...entered.matchAll(/import\("(\.[^"]+)"\)/g)].map(([, path = '']) => path);
  assert.equal(imported.length, 2, 'the app imports what catches signals, and its main module');
  assert.doesNotMatch(entered, /import[{*"]/, 'whatever else is missing, this file can be loaded');
  return loadedBy([entry, ...imported.map((path) => join(DIST, 'apps', path))]).text;
}

/** Says so when a name of Node's own fetch is looked at, which has Node load it. */
const TRAP = `data:text/javascript,for (const name of ['fetch', 'FormData', 'Headers', 'Request', 'Response']) {
  Object.defineProperty(globalThis, name, { get: () => console.log('looked at', name) });
}`;

/** What an app prints that ends immediately, because its configuration is missing. */
function outputOf(app: string): string {
  const folder = makeFolder();
  const env = {
    ...process.env,
    PM2_ENVOY_CONFIG: join(folder.path, 'missing.json'),
    PM2_ENVOY_RUN_DIR: folder.path,
  };
  const args = ['--import', TRAP, join(DIST, 'apps', `${app}.js`)];
  const { status, stdout } = spawnSync(process.execPath, args, { env, encoding: 'utf8' });
  folder.remove();
  assert.equal(status, 78, stdout);
  return stdout;
}

it('what is bundled asks for no package that an install does not bring', () => {
  const manifest = JSON.parse(readFileSync(join(DIST, '../package.json'), 'utf8'));
  const brought = Object.keys({ ...manifest.dependencies, ...manifest.optionalDependencies });
  for (const folder of ['bundle', 'bundle/cli', 'bundle/ecosystem']) {
    for (const file of readdirSync(join(DIST, folder)).filter((name) => name.endsWith('.js'))) {
      const text = readFileSync(join(DIST, folder, file), 'utf8');
      for (const [, name = ''] of text.matchAll(/import\("((?:@[^/"]+\/)?[^./"][^/"]*)[^"]*"\)/g)) {
        assert.ok(isBuiltin(name) || brought.includes(name), `${file} imports ${name}`);
      }
      assert.doesNotMatch(text, /(?:require|import)\("pino-pretty"\)/, "yarn 1 can't install it");
    }
  }
});

describe('the bundled command line', () => {
  it('is one program: a command runs for a moment, and loading is most of it', () => {
    const { text, packages } = loadedBy([join(DIST, 'cli', 'main.js')]);
    assert.deepEqual(packages, []);
    const kB = Math.round(text.length / 1_000);
    assert.ok(kB < 620, `it loads ${kB} kB`);
  });
});

it('what an ecosystem file imports is the settings alone: pm2-runtime keeps it', () => {
  const { text, packages } = loadedBy([join(DIST, 'index.js'), join(DIST, 'pm2/apps.js')]);
  assert.deepEqual(packages, []);
  assert.ok(text.length < 80_000, `it loads ${text.length} bytes`);
});

describe('the bundled apps', () => {
  it('load at start what they always need, and no more', () => {
    const [manager, runner] = [loadedAtStart('manager'), loadedAtStart('runner')];
    const express = 'X-Powered-By';
    assert.ok(manager.includes(express) && runner.includes('exitedAfterDisconnect'), 'all of it');
    assert.ok(!runner.includes(express), 'the runner loads express');
    for (const [library, mark] of [
      ['prom-client', '# HELP'],
      ['types that it never answers with', 'application/vnd.'],
      ['the webhook plugin', 'must be a URL that begins with'],
    ] as const) {
      assert.ok(!manager.includes(mark), `the manager loads ${library}`);
      assert.ok(!runner.includes(mark), `the runner loads ${library}`);
    }
  });

  it('are no larger than they were, by more than a library', () => {
    const kB = (app: string): number => Math.round(loadedAtStart(app).length / 1_000);
    assert.ok(kB('manager') < 540, `the manager loads ${kB('manager')} kB`);
    assert.ok(kB('runner') < 365, `the runner loads ${kB('runner')} kB`);
  });

  it('do not have Node load its own fetch, which takes 5 MiB', () => {
    for (const app of ['manager', 'runner']) assert.doesNotMatch(outputOf(app), /looked at/);
  });
});
