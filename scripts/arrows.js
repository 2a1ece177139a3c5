// Checks which folders of src import which: node scripts/arrows.js. Arrows go down this list, never up, and
// between folders (two deep) there is no circle. Part of `npm run check`.
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Each folder may import those of later rows; `files` are the files of src itself, all but index.ts. */
const ROWS = [
  ['index.ts', 'apps'],
  ['cli', 'manager', 'runner'],
  ['pm2'],
  ['plugins'],
  ['status'],
  ['drain'],
  ['config'],
  ['envoy'],
  ['steering'],
  ['admin'],
  ['host'],
  ['files'],
];
const ROW_OF = new Map(ROWS.flatMap((folders, row) => folders.map((name) => [name, row])));

/** What is wrong with the imports of the folder `src`, one line each. */
export function faultsOf(src) {
  const imports = readdirSync(src, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .flatMap((file) => importsOf(src, file).map((target) => ({ file, target })));
  const upwards = imports
    .map(({ file, target }) => ({ from: topOf(file), to: topOf(target), file, target }))
    .filter(({ from, to }) => from !== to && !(rowOf(from) < rowOf(to)))
    .map(({ from, to, file, target }) => `${file} imports ${target}: ${from} is not above ${to}`);
  return [...upwards, ...circlesOf(imports)];
}

function importsOf(src, file) {
  const text = readFileSync(join(src, file), 'utf8');
  return [...text.matchAll(/(?:from|import|import\()\s*'(\.[^']+)\.js'/g)].map(
    ([, path]) => `${relative(src, resolve(src, dirname(file), path))}.ts`,
  );
}

function topOf(file) {
  const [first, ...rest] = file.split('/');
  return rest.length > 0 || first === 'index.ts' ? first : 'files';
}

function rowOf(folder) {
  const row = ROW_OF.get(folder);
  if (row === undefined) throw new Error(`src/${folder} has no row in scripts/arrows.js`);
  return row;
}

/** Folders that import each other, over whatever way. */
function circlesOf(imports) {
  const below = new Map();
  for (const { file, target } of imports) {
    const [from, to] = [file, target].map(folderOf);
    if (from !== to) below.set(from, (below.get(from) ?? new Set()).add(to));
  }
  const reach = (from, seen = new Set()) => {
    for (const to of below.get(from) ?? []) if (!seen.has(to)) reach(to, seen.add(to));
    return seen;
  };
  const inCircle = [...below.keys()].filter((folder) => reach(folder).has(folder));
  return inCircle.length > 0 ? [`a circle of folders: ${inCircle.join(', ')}`] : [];
}

function folderOf(file) {
  if (!file.includes('/')) return topOf(file);
  return dirname(file).split('/').slice(0, 2).join('/');
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const faults = faultsOf(fileURLToPath(new URL('../src', import.meta.url)));
  for (const fault of faults) console.error(fault);
  if (faults.length > 0) process.exitCode = 1;
}
