import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

const ROOT = resolve(import.meta.dirname, '../..');
/** What pm2's RPC client needs; the rest is bundled, or for people at a terminal. */
const NEEDED = ['pm2/modules/pm2-axon', 'pm2/modules/pm2-axon-rpc', 'pm2/package.json'];
const PACKAGES = ['amp', 'amp-message', 'debug', 'ms'];

/**
 * Packs this package for `pm2 install`, with what it needs at run time inside: npm asks no registry then.
 *
 * @returns path of the tarball
 */
export function packModule(folder: string, version: string): string {
  const root = join(folder, `pack-${version}`, 'package');
  mkdirSync(root, { recursive: true });
  for (const name of ['dist', 'bin', 'config', 'assets']) {
    cpSync(join(ROOT, name), join(root, name), { recursive: true });
  }
  for (const name of [...NEEDED, ...PACKAGES]) {
    const from = join(ROOT, 'node_modules', name);
    if (existsSync(from)) cpSync(from, join(root, 'node_modules', name), { recursive: true });
  }
  const bundled = ['pm2', ...PACKAGES];
  const {
    scripts: _,
    devDependencies: __,
    optionalDependencies: ___,
    ...manifest
  } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  writeFileSync(
    join(root, 'package.json'),
    JSON.stringify({
      ...manifest,
      version,
      dependencies: Object.fromEntries(bundled.map((name) => [name, '*'])),
      bundleDependencies: bundled,
    }),
  );
  const tarball = join(folder, `pm2-envoy-${version}.tgz`);
  execFileSync('tar', ['-czf', tarball, '-C', join(root, '..'), 'package']);
  return tarball;
}
