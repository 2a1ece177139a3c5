import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readText } from './files.js';

/** How much memory is left for a process of this one's group. */
export interface MemoryRoom {
  leftBytes: number;
  /** What sets the limit: `the memory limit of 512 MiB`, `this machine`. */
  limit: string;
  /**
   * When memory runs out, the kernel ends every process of the cgroup, and not the one that is to go first:
   * `memory.oom.group`, which Kubernetes sets since 1.28 (kubelet's `singleProcessOOMKill: true` does not).
   */
  endsAll?: true;
}

/** A page cache that can be given back immediately does not count as used. */
const CACHE = {
  v1: ['total_inactive_file', 'total_active_file'],
  v2: ['inactive_file', 'active_file'],
};
/** What cgroup v1 says for 'no limit' is near 2^63. */
const NO_LIMIT_BYTES = 2 ** 60;

/**
 * The memory that is left before the kernel ends a process for lack of it: in the cgroups of a process and those
 * above them (v1 and v2), and on this machine. Undefined where none of it can be read.
 *
 * @param pid of a process besides this one
 * @param root where /proc and /sys are
 */
export function memoryRoom(pid?: number, root = '/'): MemoryRoom | undefined {
  const others = pid === undefined ? [] : memoryGroups(root, String(pid));
  const groups = [...memoryGroups(root), ...others];
  const rooms = [machineRoom(root), ...groups.map(groupRoom)].filter((room) => room !== undefined);
  const least = rooms.sort((a, b) => a.leftBytes - b.leftBytes)[0];
  const endsAll = groups.some(
    ({ directory }) => readText(join(directory, 'memory.oom.group'))?.trim() === '1',
  );
  return least && { ...least, ...(endsAll ? { endsAll } : {}) };
}

/**
 * The memory that a process has to itself, its share of the page cache left out; undefined when it can't be read.
 */
export function ownMemoryBytes(pid: number, root = '/'): number | undefined {
  const status = readText(join(root, 'proc', String(pid), 'status')) ?? '';
  const kB = /^RssAnon:\s+(\d+)/m.exec(status) ?? /^VmRSS:\s+(\d+)/m.exec(status);
  return kB ? Number(kB[1]) * 1_024 : undefined;
}

/** How many processes of this one's cgroup the kernel has ended for lack of memory; undefined: it does not say. */
export function outOfMemoryKills(root = '/'): number | undefined {
  const [group] = memoryGroups(root);
  const text = group
    ? readText(
        join(group.directory, group.version === 'v1' ? 'memory.oom_control' : 'memory.events'),
      )
    : readText(join(root, 'proc/vmstat'));
  const kills = /^oom_kill (\d+)/m.exec(text ?? '')?.[1];
  return kills === undefined ? undefined : Number(kills);
}

/** `: memory ran out …` when the kernel has ended a process for that since `before`, and nothing otherwise. */
export function outOfMemorySince(before: number | undefined, root = '/'): string {
  const kills = outOfMemoryKills(root);
  if (before === undefined || kills === undefined || kills <= before) return '';
  const limits = memoryGroups(root).map((group) => groupRoom(group)?.limit);
  const limit = limits.find((found) => found !== undefined);
  return `: memory ran out (${limit ?? 'of this machine'}), and the kernel ended it`;
}

/**
 * Starts a process that the kernel ends first when memory runs out, and not what serves next to it. It is so from its
 * birth: on a busy machine a starting Envoy may have taken what was left before its parent gets to run again. Where
 * the kernel does not let us, it is only started.
 *
 * @param start starts it before it returns
 */
export function startEndedFirst<T>(start: () => T, root = '/'): T {
  const own = scoreOf('self', root);
  const before = readText(own)?.trim();
  if (before === undefined || !tryWrite(own, '1000')) return start();
  try {
    return start();
  } finally {
    tryWrite(own, before);
  }
}

/** Ends what {@link startEndedFirst} did, for these processes: the kernel treats them like this one. */
export function endLikeThis(pids: Iterable<number>, root = '/'): void {
  const own = readText(scoreOf('self', root))?.trim();
  if (own === undefined) return;
  for (const pid of pids) tryWrite(scoreOf(pid, root), own);
}

/** `512 MiB` */
export function inMebibytes(bytes: number): string {
  return `${Math.round(bytes / 2 ** 20)} MiB`;
}

interface MemoryGroup {
  version: 'v1' | 'v2';
  directory: string;
}

function machineRoom(root: string): MemoryRoom | undefined {
  const kB = /^MemAvailable:\s+(\d+)/m.exec(readText(join(root, 'proc/meminfo')) ?? '')?.[1];
  return kB === undefined ? undefined : { leftBytes: Number(kB) * 1_024, limit: 'this machine' };
}

function groupRoom({ version, directory }: MemoryGroup): MemoryRoom | undefined {
  const read = (name: string): number =>
    Number(readText(join(directory, `memory.${name}`)) ?? Number.NaN);
  const limit = read(version === 'v1' ? 'limit_in_bytes' : 'max');
  const used = read(version === 'v1' ? 'usage_in_bytes' : 'current');
  // 'max' is no number.
  if (!(limit < NO_LIMIT_BYTES) || Number.isNaN(used)) return undefined;
  const stat = readText(join(directory, 'memory.stat')) ?? '';
  const cached = CACHE[version].map((name) =>
    Number(new RegExp(`^${name} (\\d+)`, 'm').exec(stat)?.[1] ?? 0),
  );
  const leftBytes = limit - used + cached.reduce((sum, bytes) => sum + bytes, 0);
  return { leftBytes: Math.max(0, leftBytes), limit: `the memory limit of ${inMebibytes(limit)}` };
}

/** The cgroups of a process that count memory: its own first, then those above it. */
function memoryGroups(root: string, pid = 'self'): MemoryGroup[] {
  const lines = (readText(join(root, 'proc', pid, 'cgroup')) ?? '')
    .split('\n')
    .map((line) => line.split(':'));
  const mounts = (readText(join(root, 'proc/self/mountinfo')) ?? '').split('\n').map(toMount);
  const v1 = lines.find(([, controllers]) => controllers?.split(',').includes('memory'));
  const v2 = lines.find(([id, controllers]) => id === '0' && controllers === '');
  const version = v1 ? 'v1' : 'v2';
  const path = (v1 ?? v2)?.slice(2).join(':');
  const mount = mounts.find(
    ({ type, options }) =>
      (version === 'v2' && type === 'cgroup2') ||
      (version === 'v1' && type === 'cgroup' && options.split(',').includes('memory')),
  );
  if (path === undefined || !mount) return [];
  // In a container the mount may begin in the middle of the path.
  const below = path.startsWith(mount.root) ? path.slice(mount.root.length) : path;
  const parts = below.split('/').filter((part) => part !== '' && part !== '..');
  return Array.from({ length: parts.length + 1 }, (_, index) => ({
    version,
    directory: join(root, mount.at, ...parts.slice(0, parts.length - index)),
  }));
}

/** `36 35 98:0 /ROOT /AT rw,noatime shared:1 - TYPE SOURCE OPTIONS` (proc(5)). */
function toMount(line: string): { root: string; at: string; type: string; options: string } {
  const [before = '', after = ''] = line.split(' - ');
  const [, , , root = '', at = ''] = before.split(' ');
  const [type = '', , options = ''] = after.split(' ');
  return { root: root === '/' ? '' : root, at, type, options };
}

function scoreOf(process: number | 'self', root: string): string {
  return join(root, 'proc', String(process), 'oom_score_adj');
}

function tryWrite(file: string, text: string): boolean {
  try {
    writeFileSync(file, text);
    return true;
  } catch {
    return false;
  }
}
