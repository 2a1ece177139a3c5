import { existsSync, readFileSync, realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** Folder of pm2-envoy's package.json, no matter where below it this module was built or bundled. */
export const PACKAGE_ROOT: string = findRoot(import.meta.dirname);

/** pm2-envoy's own version. */
export function packageVersion(): string {
  const manifest: unknown = JSON.parse(readFileSync(join(PACKAGE_ROOT, 'package.json'), 'utf8'));
  return String((manifest as { version: unknown }).version);
}

/**
 * The pm2-envoy that an import by name finds from a folder; undefined: none. Not by require.resolve(): that follows
 * NODE_PATH too, which pnpm sets for this command line, and nobody for pm2 or for an ES module.
 */
export function installedFrom(folder: string): string | undefined {
  try {
    return realpathSync(join(folder, 'node_modules/pm2-envoy'));
  } catch {
    const parent = dirname(folder);
    return parent === folder ? undefined : installedFrom(parent);
  }
}

function findRoot(folder: string): string {
  const parent = dirname(folder);
  return existsSync(join(folder, 'package.json')) || parent === folder ? folder : findRoot(parent);
}
