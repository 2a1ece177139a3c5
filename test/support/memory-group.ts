import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** What the processes of a cgroup take, in MiB; the kernel's part is in it, but for `anonMb`. */
export interface MemoryUse {
  /** All of it: `memory.current`. */
  allMb: number;
  /** What the processes have written themselves; it can't be read from a file again. */
  anonMb: number;
  /** All but files that nobody has used lately: what a kubelet goes by when it evicts pods. */
  workingSetMb: number;
}

/** A cgroup of the test's own, which counts and limits memory. */
export interface MemoryGroup {
  /** Moves a process into it; what it starts from now on is in it too. */
  take(pid: number): void;
  /** Lets the group have that much more than it uses; the page cache, which gives way, is not use. */
  leaveMb(mb: number): void;
  use(): MemoryUse;
  /** Processes in it. */
  pids(): number[];
  /** How many processes in it the kernel has ended. */
  kills(): number;
  remove(): void;
}

const V1 = {
  max: 'memory.limit_in_bytes',
  current: 'memory.usage_in_bytes',
  events: 'memory.oom_control',
  anon: 'total_rss',
  inactive: 'total_inactive_file',
  active: 'total_active_file',
};
const V2: typeof V1 = {
  max: 'memory.max',
  current: 'memory.current',
  events: 'memory.events',
  anon: 'anon',
  inactive: 'inactive_file',
  active: 'active_file',
};
const MIB = 2 ** 20;
let made = 0;

/** Makes one, v1 or v2; undefined where this user can't. */
export function makeMemoryGroup(): MemoryGroup | undefined {
  made += 1;
  const name = `pe-${process.pid}-${made}`;
  const lines = readFileSync('/proc/self/cgroup', 'utf8').split('\n');
  const v1 = lines.map((line) => /^\d+:memory:(.*)$/.exec(line)?.[1]).find((path) => path);
  const directory =
    v1 === undefined ? `/sys/fs/cgroup/${name}` : join('/sys/fs/cgroup/memory', v1, name);
  try {
    mkdirSync(directory);
  } catch {
    return undefined;
  }
  const { max, current, events, anon, inactive, active } = v1 === undefined ? V2 : V1;
  const read = (name: string): string => readFileSync(join(directory, name), 'utf8');
  const statMb = (name: string): number =>
    Number(new RegExp(`^${name} (\\d+)`, 'm').exec(read('memory.stat'))?.[1]) / MIB;
  if (!existsSync(join(directory, max))) {
    rmdirSync(directory);
    return undefined;
  }
  return {
    take: (pid) => writeFileSync(join(directory, 'cgroup.procs'), String(pid)),
    leaveMb: (mb) => {
      const cacheMb = statMb(inactive) + statMb(active);
      const limit = Number(read(current)) + (mb - cacheMb) * MIB;
      writeFileSync(join(directory, max), String(Math.round(limit)));
    },
    use: () => {
      const allMb = Number(read(current)) / MIB;
      return { allMb, anonMb: statMb(anon), workingSetMb: allMb - statMb(inactive) };
    },
    pids: () => read('cgroup.procs').trim().split('\n').filter(Boolean).map(Number),
    kills: () => Number(/^oom_kill (\d+)/m.exec(read(events))?.[1] ?? 0),
    remove: () => rmdirSync(directory),
  };
}
