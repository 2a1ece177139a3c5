// Removes the type declarations that no public entry of the package leads to: node scripts/declarations.js.
// Part of `npm run build`.
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const { exports } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));

const reached = new Set();
for (const { types } of Object.values(exports)) if (types) follow(join(ROOT, types));
for (const file of readdirSync(join(ROOT, 'dist'), { recursive: true, encoding: 'utf8' })) {
  const path = join(ROOT, 'dist', file);
  if (file.endsWith('.d.ts') && !reached.has(path)) rmSync(path);
}

function follow(file) {
  if (reached.has(file)) return;
  reached.add(file);
  for (const [, path] of readFileSync(file, 'utf8').matchAll(
    /(?:from|import\()\s*'(\.[^']+)\.js'/g,
  )) {
    follow(`${resolve(dirname(file), path)}.d.ts`);
  }
}
