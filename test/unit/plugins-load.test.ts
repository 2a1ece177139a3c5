import assert from 'node:assert/strict';
import { mkdirSync, realpathSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, it } from 'node:test';
import { isPm2EnvoyError } from '../../src/errors.js';
import { loadPlugins } from '../../src/plugins/load.js';
import { makeTempFolder } from './fakes.js';

const folder = realpathSync(makeTempFolder());

/** Writes a module and gives its path. */
function moduleAt(name: string, source: string): string {
  const path = join(folder, name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, source);
  return path;
}

async function nameOfClassIn(path: string): Promise<string> {
  const [loaded = assert.fail()] = await loadPlugins([{ path, options: {} }]);
  return loaded.create.name;
}

async function assertInvalid(path: string, reason: RegExp): Promise<void> {
  await assert.rejects(loadPlugins([{ path, options: {} }]), (error: unknown) => {
    assert.ok(isPm2EnvoyError(error, 'plugin-invalid'), String(error));
    assert.ok(error.message.includes(path));
    assert.match(error.message, reason);
    return true;
  });
}

describe('loadPlugins', () => {
  it('takes the default export', async () => {
    const path = moduleAt('default.mjs', 'export default class Tidy {}\nexport class Other {}');
    assert.equal(await nameOfClassIn(path), 'Tidy');
  });

  it('does not wait forever for an import that awaits forever', async () => {
    const path = moduleAt('hung.mjs', 'await new Promise(() => {}); export default class Hung {}');
    await assert.rejects(loadPlugins([{ path, options: {} }], 100), (error: unknown) => {
      assert.ok(isPm2EnvoyError(error, 'plugin-timeout'), String(error));
      assert.match(error.message, /hung.mjs can't be loaded: its import did not end within 100 ms/);
      return true;
    });
  });

  it('takes the export named plugin', async () => {
    const path = moduleAt('named.mjs', 'export class plugin { hooks = {} }');
    assert.equal(await nameOfClassIn(path), 'plugin');
  });

  it('takes module.exports of CommonJS', async () => {
    const path = moduleAt('common.cjs', 'module.exports = class Classic {};');
    assert.equal(await nameOfClassIn(path), 'Classic');
  });

  it('takes exports.plugin of CommonJS', async () => {
    const path = moduleAt('exports.cjs', 'exports.plugin = class Plain {};');
    assert.equal(await nameOfClassIn(path), 'Plain');
  });

  it('takes the default export as TypeScript compiles it to CommonJS', async () => {
    const path = moduleAt(
      'compiled.cjs',
      `Object.defineProperty(exports, '__esModule', { value: true });
      class Compiled {}
      exports.default = Compiled;`,
    );
    assert.equal(await nameOfClassIn(path), 'Compiled');
  });

  it('takes that export as Node shows it without tsx: one default further down', async () => {
    // tsx, which runs these tests, unwraps what has __esModule; Node does not.
    const path = moduleAt(
      'interop.mjs',
      'class Compiled {}\nexport default { default: Compiled };',
    );
    assert.equal(await nameOfClassIn(path), 'Compiled');
  });

  it('hands on name and options, in the order of the configuration', async () => {
    const first = moduleAt('first.mjs', 'await null; export default class First {}');
    const second = moduleAt('second.cjs', 'module.exports = class Second {};');
    const loaded = await loadPlugins([
      { path: first, options: { a: 1 } },
      { path: second, options: {} },
      { path: first, options: { a: 2 } },
    ]);
    assert.deepEqual(
      loaded.map(({ name, options, create }) => [name, options, create.name]),
      [
        [first, { a: 1 }, 'First'],
        [second, {}, 'Second'],
        [first, { a: 2 }, 'First'],
      ],
    );
    for (const { builtIn } of loaded) assert.notEqual(builtIn, true);
  });

  it('loads nothing for no entries', async () => {
    assert.deepEqual(await loadPlugins([]), []);
  });

  it('takes a path with characters that mean something in a URL', async () => {
    const path = moduleAt('a b#c?d%20e/plugin.mjs', 'export default class Odd {}');
    assert.equal(await nameOfClassIn(path), 'Odd');
  });

  it('looks a package up from the working directory', async (t) => {
    const before = process.cwd();
    t.after(() => process.chdir(before));
    process.chdir(folder);
    moduleAt('node_modules/my-plugin/package.json', '{"main": "lib.cjs"}');
    moduleAt('node_modules/my-plugin/lib.cjs', 'module.exports = class Packaged {};');
    assert.equal(await nameOfClassIn('my-plugin'), 'Packaged');
  });

  it('takes what pm2-envoy brings along by its name, whatever lies in the working directory', async (t) => {
    const before = process.cwd();
    t.after(() => process.chdir(before));
    process.chdir(folder);
    moduleAt('node_modules/pm2-envoy/package.json', '{"exports": {"./command": "./other.cjs"}}');
    moduleAt('node_modules/pm2-envoy/other.cjs', 'module.exports = class Other {};');
    assert.equal(await nameOfClassIn('pm2-envoy/command'), 'CommandPlugin');
    assert.equal(await nameOfClassIn('pm2-envoy/webhook'), 'WebhookPlugin');
  });

  it('says which of those was probably meant', async () => {
    await assertInvalid('pm2-envoy/webhok', /did you mean pm2-envoy\/webhook\?/);
    await assertInvalid('pm2-envoy-command', /did you mean pm2-envoy\/command\?/);
  });

  it('refuses a file or package that is not there', async () => {
    const missing = /can't be loaded: there is no such file or package$/;
    await assertInvalid(join(folder, 'missing.mjs'), missing);
    await assertInvalid('no-such-package', missing);
    await assertInvalid(folder, /can't be loaded/);
  });

  it('refuses a module that fails while it is loaded, with its reason', async () => {
    await assertInvalid(moduleAt('throws.mjs', "throw new Error('no luck');"), /no luck/);
    await assertInvalid(moduleAt('syntax.mjs', 'export default class {'), /can't be loaded/);
    await assertInvalid(
      moduleAt('imports.mjs', "import 'no-such-dependency';"),
      /no-such-dependency/,
    );
  });

  const classless = {
    'nothing.mjs': '',
    'object.mjs': 'export default { hooks: {} };',
    'arrow.mjs': 'export default () => ({});',
    'instance.mjs': 'class A {}\nexport default new A();',
    'text.mjs': "export default 'plugin';",
    'null.mjs': 'export default null;',
    'other.mjs': 'export class Plugin {}',
    'empty.cjs': '',
    'nested.cjs': 'exports.default = { plugin: {} };',
  };
  for (const [name, source] of Object.entries(classless)) {
    it(`refuses a module without a class (${name})`, async () => {
      await assertInvalid(moduleAt(name, source), /exports no class/);
    });
  }

  it('refuses all when one of several can’t be loaded', async () => {
    const good = moduleAt('good.mjs', 'export default class Good {}');
    await assert.rejects(
      loadPlugins([
        { path: good, options: {} },
        { path: join(folder, 'missing.mjs'), options: {} },
      ]),
      (error: unknown) => isPm2EnvoyError(error, 'plugin-invalid'),
    );
  });
});
