import {
  chmodSync,
  linkSync,
  lstatSync,
  readlinkSync,
  renameSync,
  rmSync,
  type Stats,
  watch,
} from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { messageOf } from '../errors.js';
import type { Log } from '../log.js';
import { namesIn } from './files.js';

/**
 * Keeps the paths of unix sockets with the Envoy that listens there, while another one starts. An Envoy
 * unlinks the path and binds it again at its start, and listens only when it is LIVE: until then, and for good
 * if it never is, no one would answer there (docs/facts/envoy.md).
 */
export interface KeptPaths {
  /**
   * Gives the paths to the new Envoy. Idempotent.
   *
   * @param modes by path, where the new Envoy sets one: it does so by the path after it has bound that, and by
   *   then the old socket may be back there
   */
  handOver(modes: ReadonlyMap<string, number>): void;
  /** Leaves the paths with the old one, whatever the new one did. Idempotent. */
  giveBack(): void;
}

const LOOK_MS = 5;
/** Of a mode, without the kind of file. */
const ALL_BITS = 0o7777;

/**
 * Begins to keep the paths. Each is hard-linked aside; once the new Envoy has bound it, its socket is moved
 * aside and the old one back.
 *
 * @param paths absolute
 * @param numbers of the generation in service and of the new one: what is moved aside is named after them
 */
export function keepSocketPaths(
  paths: readonly string[],
  numbers: { before: number; now: number },
  log: Log,
): KeptPaths {
  const kept = paths.flatMap((path) => {
    try {
      return [keepPath(path, numbers)];
    } catch (error) {
      log.warn(`${path} can't be kept for the Envoy in service: ${messageOf(error)}`);
      return [];
    }
  });
  const each = (act: (path: KeptPath) => void): void => {
    for (const one of kept) {
      try {
        act(one);
      } catch (error) {
        log.warn(`${one.path} is in an unexpected state: ${messageOf(error)}`);
      }
    }
  };
  const look = (): void => each((one) => one.look());
  const folders = [...new Set(kept.map(({ path }) => dirname(path)))];
  const watchers = folders.flatMap((folder) => {
    try {
      return [watch(folder, look).on('error', () => undefined)];
    } catch {
      return [];
    }
  });
  const timer = kept.length > 0 ? setInterval(look, LOOK_MS) : undefined;
  const stopLooking = (): void => {
    clearInterval(timer);
    for (const watcher of watchers) watcher.close();
  };
  return {
    handOver: (modes) => {
      stopLooking();
      look();
      each((one) => one.handOver(modes.get(one.path)));
    },
    giveBack: () => {
      stopLooking();
      look();
      each((one) => one.giveBack());
    },
  };
}

/** Finishes what a runner that has died left half done: each path belongs to the generation in service. */
export function recoverSocketPaths(paths: readonly string[], inService: number): void {
  for (const path of paths) {
    const folder = dirname(path);
    const start = asidePrefix(path);
    for (const name of namesIn(folder).filter((one) => one.startsWith(start))) {
      if (name === start + inService) replace(join(folder, name), path);
      else rmSync(join(folder, name), { force: true });
    }
  }
}

/** A path as the process has it: relative ones start in its own folder. */
export function pathOf(pid: number, path: string): string {
  try {
    return resolve(readlinkSync(`/proc/${pid}/cwd`), path);
  } catch {
    return resolve(path);
  }
}

interface KeptPath {
  readonly path: string;
  look(): void;
  handOver(mode: number | undefined): void;
  giveBack(): void;
}

function keepPath(path: string, { before, now }: { before: number; now: number }): KeptPath {
  const old = aside(path, before);
  const fresh = aside(path, now);
  const { ino: inode, mode: oldMode } = lstatSync(path);
  const keepMode = (found: Stats | undefined): void => {
    if (found?.ino === inode && found.mode !== oldMode) chmodSync(path, oldMode & ALL_BITS);
  };
  rmSync(old, { force: true });
  linkSync(path, old);
  return {
    path,
    look: () => {
      const found = statusOf(path);
      keepMode(found);
      // Unlinked: it is bound in a moment, and is in the way until then.
      if (found === undefined || found.ino === inode) return;
      rmSync(fresh, { force: true });
      linkSync(path, fresh);
      renameSync(old, path);
      linkSync(path, old);
    },
    handOver: (mode) => {
      if (statusOf(fresh)) {
        if (mode !== undefined) chmodSync(fresh, mode);
        replace(fresh, path);
      }
      rmSync(old, { force: true });
    },
    giveBack: () => {
      replace(old, path);
      keepMode(statusOf(path));
      rmSync(fresh, { force: true });
    },
  };
}

/** Two names of one file are left as they are by a rename. */
function replace(from: string, to: string): void {
  if (!statusOf(from)) return;
  renameSync(from, to);
  rmSync(from, { force: true });
}

function statusOf(path: string): Stats | undefined {
  return lstatSync(path, { throwIfNoEntry: false });
}

function aside(path: string, whose: number): string {
  return join(dirname(path), `${asidePrefix(path)}${whose}`);
}

function asidePrefix(path: string): string {
  return `.${basename(path)}.pm2-envoy-`;
}
