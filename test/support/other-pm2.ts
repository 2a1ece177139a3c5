import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Installs another version of pm2 from the registry, in a folder of its own below `folder`; it takes some 5 s.
 *
 * @returns path of its bin/pm2
 */
export function installPm2(folder: string, version: string): string {
  const own = join(folder, `pm2-${version}`);
  mkdirSync(own);
  writeFileSync(join(own, 'package.json'), '{ "private": true }');
  const words = ['install', '--no-audit', '--no-fund', '--omit=optional', `pm2@${version}`];
  execFileSync('npm', words, { cwd: own, stdio: 'pipe' });
  return join(own, 'node_modules/pm2/bin/pm2');
}
