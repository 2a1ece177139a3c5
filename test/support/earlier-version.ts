import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, rmSync, symlinkSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { copyPackage, type PackageCopy } from './package-copy.js';

const ROOT = resolve(import.meta.dirname, '../..');
/** The last commit in whose version each generation's folder had the record of the host's drain. */
const EARLIER = 'd127d2e';

/** A package whose files are replaced, as by `npm install`. */
export interface ReplacedPackage extends PackageCopy {
  /** From now on, what starts is of this version. */
  become(version: 'earlier' | 'this'): void;
}

/** Builds the earlier version from this repository's history, below `folder`; it takes some 20 s. */
export function prepareReplaced(folder: string): ReplacedPackage {
  const earlier = join(folder, 'earlier');
  mkdirSync(earlier);
  const archive = execFileSync('git', ['archive', EARLIER], {
    cwd: ROOT,
    maxBuffer: 256 * 1024 * 1024,
  });
  execFileSync('tar', ['x', '-C', earlier], { input: archive });
  symlinkSync(join(ROOT, 'node_modules'), join(earlier, 'node_modules'));
  execFileSync('npm', ['run', 'build'], { cwd: earlier, stdio: 'pipe' });
  const copy = copyPackage(join(folder, 'package'));
  return {
    ...copy,
    become: (version) => {
      const dist = join(copy.path, 'dist');
      rmSync(dist, { recursive: true });
      cpSync(join(version === 'this' ? ROOT : earlier, 'dist'), dist, { recursive: true });
    },
  };
}
