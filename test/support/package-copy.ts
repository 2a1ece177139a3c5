import { cpSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

const ROOT = resolve(import.meta.dirname, '../..');

/** A copy of this package that a test may take files from. */
export interface PackageCopy {
  path: string;
  /** An ecosystem file that runs the apps of the copy. */
  ecosystem: string;
}

/**
 * Copies the package to `path`; its dependencies are linked.
 *
 * @param settings what both apps are to have in pm2 instead of what envoyApps gives them
 */
export function copyPackage(path: string, settings: Record<string, unknown> = {}): PackageCopy {
  mkdirSync(path, { recursive: true });
  for (const name of ['dist', 'bin', 'config', 'assets', 'package.json']) {
    cpSync(join(ROOT, name), join(path, name), { recursive: true });
  }
  symlinkSync(join(ROOT, 'node_modules'), join(path, 'node_modules'));
  const ecosystem = join(path, 'ecosystem.config.js');
  writeFileSync(
    ecosystem,
    `import { envoyApps } from './dist/pm2/apps.js';
const settings = ${JSON.stringify(settings)};
export const apps = envoyApps({ cwd: import.meta.dirname }).map((app) => ({ ...app, ...settings }));
`,
  );
  return { path, ecosystem };
}
