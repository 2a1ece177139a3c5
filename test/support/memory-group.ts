import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** A cgroup of the test's own, which limits memory. */
export interface MemoryGroup {
  /** Moves a process into it; what it starts from now on is in it too. */
  take(pid: number): void;
  /** Lets the group have that much more than it uses. */
  leaveMb(mb: number): void;
  /** How many processes in it the kernel has ended. */
  kills(): number;
  remove(): void;
}

/** Makes one, v1 or v2; undefined where this user can't. */
export function makeMemoryGroup(): MemoryGroup | undefined {
  const lines = readFileSync('/proc/self/cgroup', 'utf8').split('\n');
  const v1 = lines.map((line) => /^\d+:memory:(.*)$/.exec(line)?.[1]).find((path) => path);
  const directory =
    v1 === undefined
      ? `/sys/fs/cgroup/pe-${process.pid}`
      : join('/sys/fs/cgroup/memory', v1, `pe-${process.pid}`);
  try {
    mkdirSync(directory);
  } catch {
    return undefined;
  }
  const [max, current, events] =
    v1 === undefined
      ? ['memory.max', 'memory.current', 'memory.events']
      : ['memory.limit_in_bytes', 'memory.usage_in_bytes', 'memory.oom_control'];
  const read = (name: string): string => readFileSync(join(directory, name), 'utf8');
  if (!existsSync(join(directory, max))) {
    rmdirSync(directory);
    return undefined;
  }
  return {
    take: (pid) => writeFileSync(join(directory, 'cgroup.procs'), String(pid)),
    leaveMb: (mb) =>
      writeFileSync(join(directory, max), String(Number(read(current)) + mb * 2 ** 20)),
    kills: () => Number(/^oom_kill (\d+)/m.exec(read(events))?.[1] ?? 0),
    remove: () => rmdirSync(directory),
  };
}
