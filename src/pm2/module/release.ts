import {
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { basename, dirname, join, relative, sep } from 'node:path';
import { PACKAGE_ROOT, packageVersion } from '../../package-root.js';
import { fingerprintOf, type ModuleState } from './state.js';

/** The release that `envoy` runs, seen from the state folder; its path stays the same over upgrades. */
const CURRENT = 'current';

/** The script of the app `envoy`, from its working directory: pm2 keeps the path that an app was first given. */
export const RUNNER_SCRIPT: string = join(CURRENT, 'dist/apps/runner.js');

/** A release of pm2-envoy that is ready to run. */
export interface Release {
  /** Differs where what runs differs. */
  id: string;
  /** Makes it the one that `envoy` is started with from now on. */
  use(): void;
}

/**
 * Makes the release that this process is part of ready for `envoy`. pm2 deletes the module's folder when it upgrades or
 * uninstalls the module, and `envoy` runs on. So it runs from a copy; of hard links, where the file system has them.
 * A module that was installed from a folder by a link is not deleted, and runs from where it is.
 */
export function prepareRelease(state: ModuleState, modules: string): Release {
  const program = readFileSync(join(PACKAGE_ROOT, 'dist/runner/main.js'), 'utf8');
  const id = `${packageVersion()}-${fingerprintOf(program)}`;
  const tree = treeOf(PACKAGE_ROOT, modules);
  const target =
    tree === undefined ? PACKAGE_ROOT : copyTree(tree, join(state.folder, 'releases', id));
  return { id, use: () => point(join(state.folder, CURRENT), target) };
}

/** Removes all copies but the present one and the one before it, which an older generation may still run from. */
export function pruneReleases(state: ModuleState): void {
  const releases = join(state.folder, 'releases');
  if (!existsSync(releases)) return;
  const kept = [CURRENT, `${CURRENT}.before`].map((link) => releaseIn(join(state.folder, link)));
  for (const name of readdirSync(releases)) {
    if (!kept.includes(name)) rmSync(join(releases, name), { recursive: true, force: true });
  }
}

/** The outermost folder `node_modules` below the folder of pm2's modules; undefined: the package is elsewhere. */
function treeOf(root: string, modules: string): string | undefined {
  const real = existsSync(modules) ? realpathSync(modules) : modules;
  const parts = relative(real, root).split(sep);
  const depth = parts.indexOf('node_modules');
  if (parts[0] === '..' || depth < 0) return undefined;
  return join(real, ...parts.slice(0, depth + 1));
}

/** Gives the folder of the package in the copy. */
function copyTree(tree: string, release: string): string {
  const inside = relative(dirname(tree), PACKAGE_ROOT);
  const target = join(release, inside);
  if (existsSync(release)) return target;
  const draft = `${release}.${process.pid}.draft`;
  linkTree(tree, join(draft, basename(tree)));
  renameSync(draft, release);
  return target;
}

function linkTree(from: string, to: string): void {
  mkdirSync(to, { recursive: true });
  for (const entry of readdirSync(from, { withFileTypes: true })) {
    const [source, copy] = [join(from, entry.name), join(to, entry.name)];
    if (entry.isDirectory()) linkTree(source, copy);
    else if (entry.isSymbolicLink()) symlinkSync(readlinkSync(source), copy);
    else linkFile(source, copy);
  }
}

function linkFile(from: string, to: string): void {
  try {
    linkSync(from, to);
  } catch {
    copyFileSync(from, to);
  }
}

/** Without a moment in which the link is not there. */
function point(link: string, target: string): void {
  const now = targetOf(link);
  if (now === target) return;
  if (now !== undefined) setLink(`${link}.before`, now);
  setLink(link, target);
}

function setLink(link: string, target: string): void {
  const draft = `${link}.${process.pid}.draft`;
  rmSync(draft, { force: true });
  symlinkSync(target, draft);
  renameSync(draft, link);
}

function targetOf(link: string): string | undefined {
  try {
    return readlinkSync(link);
  } catch {
    return undefined;
  }
}

/** Name of the copy that a link leads to. */
function releaseIn(link: string): string | undefined {
  const parts = targetOf(link)?.split(sep) ?? [];
  const at = parts.indexOf('releases');
  return at < 0 ? undefined : parts[at + 1];
}
