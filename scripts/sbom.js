// Lists what users install, as CycloneDX: node scripts/sbom.js (npm run sbom). `npm sbom --omit dev` alone leaves out
// packages that a development dependency needs as well, so npm gets a lock file without those.
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** A lock file without what only development needs. */
export function withoutDev(lock) {
  const { '': root, ...packages } = lock.packages;
  const { devDependencies: _, ...users } = root;
  const kept = Object.entries(packages).filter(([, { dev }]) => !dev);
  return { ...lock, packages: { '': users, ...Object.fromEntries(kept) } };
}

/** The list as text. Asks no registry. */
export function sbom() {
  const read = (name) => JSON.parse(readFileSync(new URL(`../${name}`, import.meta.url), 'utf8'));
  const { devDependencies: _, ...manifest } = read('package.json');
  const parent = mkdtempSync(join(tmpdir(), 'pe-'));
  // npm names the list after its folder.
  const folder = join(parent, manifest.name);
  const write = (name, content) => writeFileSync(join(folder, name), JSON.stringify(content));
  try {
    mkdirSync(folder);
    write('package.json', manifest);
    write('package-lock.json', withoutDev(read('package-lock.json')));
    const words = ['sbom', '--package-lock-only', '--sbom-format', 'cyclonedx'];
    return execFileSync('npm', words, { cwd: folder, encoding: 'utf8' });
  } finally {
    rmSync(parent, { recursive: true });
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) console.log(sbom());
