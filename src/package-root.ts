import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** Folder of pm2-envoy's package.json, no matter where below it this module was built or bundled. */
export const PACKAGE_ROOT: string = findRoot(import.meta.dirname);

/** pm2-envoy's own version. */
export function packageVersion(): string {
  const manifest: unknown = JSON.parse(readFileSync(join(PACKAGE_ROOT, 'package.json'), 'utf8'));
  return String((manifest as { version: unknown }).version);
}

function findRoot(folder: string): string {
  const parent = dirname(folder);
  return existsSync(join(folder, 'package.json')) || parent === folder ? folder : findRoot(parent);
}
