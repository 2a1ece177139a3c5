import { readdirSync, readFileSync } from 'node:fs';
import { identify, isAlive, type ProcessIdentity, psRows } from './process-identity.js';

/** A process of a group. */
export interface GroupMember {
  pid: number;
  parent: number;
  /** Its arguments, joined by blanks or zeros. */
  command: string;
}

/**
 * The number of a live process's group. Undefined when it is gone, when that can't be told, and for our own group:
 * a process that signals that group ends itself.
 */
export function groupOf(identity: ProcessIdentity): number | undefined {
  if (!isAlive(identity)) return undefined;
  const group = rowOf(identity.pid)?.group;
  return group === undefined || group === rowOf(process.pid)?.group ? undefined : group;
}

/** The live processes of a group. */
export function membersOf(group: number): GroupMember[] {
  return pids()
    .map(rowOf)
    .filter((row) => row !== undefined)
    .filter((row) => row.group === group && identify(row.pid) !== undefined)
    .map(({ pid, parent }) => ({ pid, parent, command: commandOf(pid) }));
}

/**
 * The process of a group that was started with `text` among its arguments: not a wrapper that was too, and
 * handed it on. Undefined when there is none.
 */
export function findInGroup(group: number, text: string): ProcessIdentity | undefined {
  const members = membersOf(group).filter(({ command }) => command.includes(text));
  const parents = new Set(members.map(({ parent }) => parent));
  const found = members.findLast(({ pid }) => !parents.has(pid));
  return found && identify(found.pid);
}

/** Signals a group, with 0 only to see whether it is there. False: there is no such group any more. */
export function signalGroup(group: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(-group, signal);
  } catch {
    return false;
  }
}

/**
 * Kills the group that a child leads once `limitMs` have passed or `stop` is aborted: a wrapper's Envoy with it.
 * `release` gives that up.
 */
export function boundGroup(
  { pid }: { pid?: number | undefined },
  { limitMs, stop }: { limitMs: number; stop?: AbortSignal | undefined },
): { isLate(): boolean; release(): void } {
  let isLate = false;
  const end = (): void => {
    if (pid) signalGroup(pid, 'SIGKILL');
  };
  const timer = setTimeout(() => {
    isLate = true;
    end();
  }, limitMs);
  stop?.addEventListener('abort', end);
  return {
    isLate: () => isLate,
    release: () => {
      clearTimeout(timer);
      stop?.removeEventListener('abort', end);
    },
  };
}

interface Row {
  pid: number;
  parent: number;
  group: number;
}

function pids(): number[] {
  if (process.platform !== 'linux') return psRows('pid=').map((row) => Number.parseInt(row, 10));
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

/** Parent and group are fields 4 and 5 of /proc/PID/stat (proc(5)). */
function rowOf(pid: number): Row | undefined {
  try {
    if (process.platform !== 'linux') {
      const [parent = 0, group = 0] = (psRows('ppid=,pgid=', pid)[0] ?? '')
        .trim()
        .split(/\s+/)
        .map(Number);
      return { pid, parent, group };
    }
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const [, parent = 0, group = 0] = stat
      .slice(stat.lastIndexOf(')') + 2)
      .split(' ')
      .map(Number);
    return { pid, parent, group };
  } catch {
    return undefined;
  }
}

function commandOf(pid: number): string {
  try {
    if (process.platform !== 'linux') return psRows('command=', pid)[0] ?? '';
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}
