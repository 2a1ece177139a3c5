import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { describe, it } from 'node:test';
import { pathToFileURL } from 'node:url';

const ROOT = resolve(import.meta.dirname, '../..');
const { faultsOf } = (await import(pathToFileURL(join(ROOT, 'scripts/arrows.js')).href)) as {
  faultsOf(src: string): string[];
};

/** The faults of a source folder with these files. */
function faultsIn(files: Readonly<Record<string, string>>): string[] {
  const src = mkdtempSync(join(tmpdir(), 'arrows-'));
  try {
    for (const [name, text] of Object.entries(files)) {
      mkdirSync(dirname(join(src, name)), { recursive: true });
      writeFileSync(join(src, name), text);
    }
    return faultsOf(src);
  } finally {
    rmSync(src, { recursive: true });
  }
}

describe('faultsOf', () => {
  it('finds none in our own source', () => {
    assert.deepEqual(faultsOf(join(ROOT, 'src')), []);
  });

  it('names a file that imports one further up, also in an import at run time', () => {
    const text = "const { a } = await import('../cli/a.js');\n";
    assert.deepEqual(faultsIn({ 'drain/b.ts': text, 'cli/a.ts': '' }), [
      'drain/b.ts imports cli/a.ts: drain is not above cli',
    ]);
  });

  it('names a program that imports another one', () => {
    const text = "import type { A } from '../manager/a.js';\n";
    assert.equal(faultsIn({ 'runner/b.ts': text, 'manager/a.ts': '' }).length, 1);
  });

  it('names the folders of a circle below one row', () => {
    const faults = faultsIn({
      'manager/http/a.ts': "import { b } from '../page/b.js';\n",
      'manager/page/b.ts': "import { a } from '../http/a.js';\n",
    });
    assert.deepEqual(faults, ['a circle of folders: manager/http, manager/page']);
  });

  it('refuses a folder that has no row', () => {
    assert.throws(
      () => faultsIn({ 'new/a.ts': "import '../log.js';\n", 'log.ts': '' }),
      /src\/new/,
    );
  });
});

describe('the file tree of docs/architecture.md', () => {
  it('has every file of src, and no other', () => {
    const page = readFileSync(join(ROOT, 'docs/architecture.md'), 'utf8');
    const files = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' });
    const existing = files.filter((file) => file.endsWith('.ts')).sort();
    assert.deepEqual(filesOf(page).sort(), existing);
  });
});

/** The paths below `src/` in the page's tree: one or more names a line, indented below their folder. */
function filesOf(page: string): string[] {
  const tree = /\nsrc\/\n([\s\S]*?)\n\S/.exec(page)?.[1] ?? '';
  const folders: string[] = [];
  return tree.split('\n').flatMap((line) => {
    const [, indent = '', names = ''] = /^( *)([^\s,]+(?:, [^\s,]+)*)/.exec(line) ?? [];
    const depth = indent.length / 2 - 1;
    folders.length = depth;
    if (names.endsWith('/')) folders[depth] = names.slice(0, -1);
    const isFile = names.endsWith('.ts');
    return isFile ? names.split(', ').map((name) => [...folders, name].join('/')) : [];
  });
}
