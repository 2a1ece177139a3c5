import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { after, before, describe, it, type TestContext } from 'node:test';
import { pathToFileURL } from 'node:url';
import { makeFolder } from '../support/folder.js';

const ROOT = resolve(import.meta.dirname, '../..');
const MANIFEST = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
  exports: Record<string, { types?: string; default?: string } | string>;
  files: string[];
};

const { packageProblems, pack } = (await import(
  pathToFileURL(join(ROOT, 'scripts/package-check.js')).href
)) as {
  packageProblems(tarball: string): Promise<string[]>;
  pack(folder: string): string;
};

const { sbom } = (await import(pathToFileURL(join(ROOT, 'scripts/sbom.js')).href)) as {
  sbom(): string;
};

/** Every kind of file that users get. A file that fits none of these is packed by mistake, or needs a line here. */
const PACKED = [
  /^(CHANGELOG|README|SECURITY)\.md$/,
  /^LICENSE$/,
  /^package\.json$/,
  /^ecosystem\.config\.js$/,
  /^bin\/pm2-envoy\.js$/,
  /^assets\/(plugin\/)?[\w-]+\.(css|html|js|json|svg)$/,
  /^config\/[\w-]+\.(json|yaml)$/,
  /^dist\/([\w-]+\/)*[\w-]+\.(css|d\.ts|js)$/,
  /^docs\/([\w-]+\/)*[\w.-]+\.(md|yaml|js|json|svg|png)$/,
  /^deploy\/([\w-]+\/)*(Dockerfile|[\w.-]+\.(cfg|conf|container|hcl|j2|js|json|sh|toml|yaml|yml))$/,
];
/** In bytes: docs/releasing.md names the sizes. */
const LARGEST = { tarball: 1_200_000, unpacked: 3_500_000 };

describe('the package', () => {
  const { files, size, unpackedSize } = packed();

  it('has what the manifest names, and nothing for those who build it', () => {
    const tops = new Set(files.map((file) => file.split('/')[0]));
    const named = MANIFEST.files.filter((name) => !name.startsWith('!'));
    assert.deepEqual([...tops].sort(), [...named, 'package.json'].sort());
    const stray = files.filter((file) => /\.map$|\.test\.|(^|\/)\.|\.log$|node_modules/.test(file));
    assert.deepEqual(stray, []);
  });

  it('has files of the known kinds only', () => {
    const unknown = files.filter((file) => !PACKED.some((pattern) => pattern.test(file)));
    assert.deepEqual(unknown, []);
    const unused = PACKED.filter((pattern) => !files.some((file) => pattern.test(file)));
    assert.deepEqual(unused, []);
  });

  it('is small', () => {
    assert.ok(size <= LARGEST.tarball, `${size} bytes`);
    assert.ok(unpackedSize <= LARGEST.unpacked, `${unpackedSize} bytes`);
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
    const folder = makeProject(t);
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
    compile(folder, '--module', 'nodenext', 'plugin.mts');
  });

  // `import` in a .cts file is a require() of an ES module: TypeScript has known since `node20` that Node can do that.
  for (const [file, module] of [
    ['an.mts', 'node16'],
    ['a.cts', 'node20'],
    ['a.ts', 'bundler'],
  ] as const) {
    it(`has types for ${file.split('.')[1]} with TypeScript's ${module}`, (t) => {
      const folder = makeProject(t);
      writeFileSync(
        join(folder, file),
        `import { envoyApps, type Plugin } from 'pm2-envoy';
        import * as command from 'pm2-envoy/command';
        import * as webhook from 'pm2-envoy/webhook';
        import { createTestHost } from 'pm2-envoy/testing';
        const apps: readonly { name: string }[] = envoyApps({ cwd: '/' });
        // @ts-expect-error there is no such option: the types are not any
        envoyApps({ cwd: 1 });
        export const all = [apps, command, webhook, createTestHost];
        export type P = Plugin;\n`,
      );
      const words = module === 'bundler' ? ['esnext', '--moduleResolution', module] : [module];
      compile(folder, '--module', ...words, file);
    });
  }

  it('has an SBOM of all that users install, and of nothing else', () => {
    const { packages } = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8')) as {
      packages: Record<string, { version: string; dev?: boolean }>;
    };
    const installed = Object.entries(packages)
      .filter(([path, { dev }]) => path !== '' && !dev)
      .map(([path, { version }]) => `${path.split('node_modules/').at(-1)}@${version}`);
    const { components, metadata } = JSON.parse(sbom()) as {
      metadata: { component: { name: string } };
      components: { name: string; version: string }[];
    };
    assert.equal(metadata.component.name, 'pm2-envoy');
    const listed = components.map(({ name, version }) => `${name}@${version}`);
    assert.deepEqual([...new Set(listed)].sort(), [...new Set(installed)].sort());
  });

  describe('as a tarball', () => {
    const { path: folder, remove } = makeFolder();
    let tarball: string;
    before(() => {
      tarball = pack(folder);
    });
    after(remove);

    it('has nothing that publint or arethetypeswrong complains about', async () => {
      assert.deepEqual(await packageProblems(tarball), []);
    });

    it('can be installed from the folder that it was unpacked to', () => {
      execFileSync('tar', ['xzf', tarball, '-C', folder]);
      const project = join(folder, 'project');
      mkdirSync(project);
      writeFileSync(join(project, 'package.json'), '{ "private": true }');
      execFileSync('npm', ['install', '--offline', '--no-audit', join(folder, 'package')], {
        cwd: project,
        stdio: 'pipe',
        encoding: 'utf8',
      });
      assert.ok(existsSync(join(project, 'node_modules/.bin/pm2-envoy')));
    });

    it('is found to be wrong where an export leads nowhere and a type is missing', async () => {
      const root = join(folder, 'wrong/package');
      mkdirSync(root, { recursive: true });
      writeFileSync(join(root, 'index.js'), 'export const one = 1;\n');
      writeFileSync(join(root, 'index.d.ts'), 'export declare const one: number;\n');
      writeFileSync(
        join(root, 'package.json'),
        JSON.stringify({
          name: 'wrong',
          version: '1.0.0',
          type: 'module',
          exports: {
            '.': { types: './index.d.ts', default: './index.js' },
            './other': './other.js',
          },
        }),
      );
      const wrong = join(folder, 'wrong.tgz');
      execFileSync('tar', ['czf', wrong, '-C', join(folder, 'wrong'), 'package']);
      const problems = (await packageProblems(wrong)).join('\n');
      assert.match(problems, /publint: .*other\.js/);
      assert.match(problems, /arethetypeswrong: NoResolution .*other/);
    });
  });
});

/** A project that has this package. */
function makeProject(t: TestContext): string {
  const { path: folder, remove } = makeFolder();
  t.after(remove);
  mkdirSync(join(folder, 'node_modules'));
  symlinkSync(ROOT, join(folder, 'node_modules/pm2-envoy'));
  return folder;
}

/** Fails where TypeScript does. */
function compile(folder: string, ...words: string[]): void {
  execFileSync(
    process.execPath,
    [
      join(ROOT, 'node_modules/typescript/bin/tsc'),
      ...['--noEmit', '--strict', '--target', 'es2023'],
      ...['--typeRoots', join(ROOT, 'node_modules/@types'), '--types', 'node', ...words],
    ],
    { cwd: folder, stdio: 'pipe', encoding: 'utf8' },
  );
}

/** What `npm pack` would put into the tarball. */
function packed(): { files: string[]; size: number; unpackedSize: number } {
  const text = execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], {
    cwd: ROOT,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const [pack] = Object.values(JSON.parse(text) as object).flat() as {
    files: { path: string }[];
    size: number;
    unpackedSize: number;
  }[];
  assert.ok(pack, text);
  return { ...pack, files: pack.files.map(({ path }) => path) };
}
