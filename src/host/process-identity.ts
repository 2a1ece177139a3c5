import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { systemCodeOf } from '../errors.js';

/** A process that can't be mistaken for a later one with the same pid. */
export interface ProcessIdentity {
  pid: number;
  /** When it started, in the system's own words; equal for the same process only. */
  startTime: string;
  /** The PID namespace in which the pid means it, where that is known: in another container it is no one's. */
  namespace?: string;
}

/** How a process stands: a zombie without other threads is `dead`; `stopped` is SIGSTOP or a debugger. */
export type ProcessCondition = 'running' | 'stopped' | 'dead';

/**
 * The start time of a process that exists and can't be inspected: /proc is mounted with hidepid, and the
 * program has file capabilities or may not be read. Only its pid tells it apart then.
 */
const HIDDEN = 'hidden';

/** The identity of a live process; undefined when there is none with this pid. */
export function identify(pid: number): ProcessIdentity | undefined {
  const seen = look(pid);
  if (seen === 'unreadable') {
    return exists(pid) ? named({ pid, startTime: `${bootId()}:${HIDDEN}` }) : undefined;
  }
  if (!seen || seen.condition === 'dead') return undefined;
  return named({ pid, startTime: seen.startTime });
}

/** Whether a later process with the same pid would be mistaken for this one: callers check other sources too, if they can. */
export function isHidden({ startTime }: ProcessIdentity): boolean {
  return startTime.endsWith(`:${HIDDEN}`);
}

function named(identity: ProcessIdentity): ProcessIdentity {
  const namespace = ownNamespace();
  return namespace === undefined ? identity : { ...identity, namespace };
}

let own: ProcessIdentity | undefined;

/** This process. */
export function ownIdentity(): ProcessIdentity {
  own ??= identify(process.pid);
  return own ?? { pid: process.pid, startTime: 'unknown' };
}

/**
 * The condition of exactly this process; one that took over its pid does not count. One that exists
 * but can't be inspected (no file descriptor is left, say) counts as running: taking an Envoy for
 * dead would end its drain with connections open.
 */
export function conditionOf(identity: ProcessIdentity): ProcessCondition {
  if (isElsewhere(identity)) return 'dead';
  const seen = look(identity.pid);
  if (seen === 'unreadable') return exists(identity.pid) ? 'running' : 'dead';
  if (seen && isHidden(identity)) return seen.condition;
  return seen?.startTime === identity.startTime ? seen.condition : 'dead';
}

/** Whether exactly this process exists, running or stopped. */
export function isAlive(identity: ProcessIdentity): boolean {
  return conditionOf(identity) !== 'dead';
}

/** Whether both name the same process. */
export function sameProcess(
  a: ProcessIdentity | undefined,
  b: ProcessIdentity | undefined,
): boolean {
  if (a?.namespace && b?.namespace && a.namespace !== b.namespace) return false;
  return a !== undefined && b !== undefined && a.pid === b.pid && a.startTime === b.startTime;
}

/** Whether its pid would mean it here if it lived: elsewhere than on Linux that can't be told. */
export function isOfThisSystem(identity: ProcessIdentity): boolean {
  if (process.platform !== 'linux') return true;
  return identity.startTime.startsWith(`${bootId()}:`) && !isElsewhere(identity);
}

/** Whether it is a process of another container, of which this one sees nothing but files. */
export function isElsewhere({ namespace }: ProcessIdentity): boolean {
  return namespace !== undefined && namespace !== (ownNamespace() ?? namespace);
}

/** Sends a signal to exactly this process; false when it is gone already. */
export function signalProcess(identity: ProcessIdentity, signal: NodeJS.Signals): boolean {
  if (!isAlive(identity)) return false;
  try {
    return process.kill(identity.pid, signal);
  } catch {
    return false;
  }
}

/** Finds the process with `text` in its command line, if there is one. */
export function findByCommandLine(text: string): ProcessIdentity | undefined {
  const found = commandLines().find((line) => line.text.includes(text));
  return found && identify(found.pid);
}

interface Seen {
  startTime: string;
  condition: ProcessCondition;
}

/** Undefined: there is no such process. */
function look(pid: number): Seen | 'unreadable' | undefined {
  return process.platform === 'linux' ? lookInProc(pid) : lookWithPs(pid);
}

/**
 * /proc/PID/stat: the state is field 3, the number of threads field 20, and the start time, in clock ticks since
 * boot, field 22 (proc(5)). A first thread that has ended is a zombie while others live, which keep every socket
 * open: so it is for a moment after each kill of Envoy.
 */
function lookInProc(pid: number): Seen | 'unreadable' | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The command's name, in parentheses, may hold spaces and parentheses itself.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const condition = conditionFrom(fields[0] ?? '');
    const isEnding = condition === 'dead' && Number(fields[17]) > 1;
    return {
      startTime: `${bootId()}:${fields[19]}`,
      condition: isEnding ? 'running' : condition,
    };
  } catch (error) {
    const code = systemCodeOf(error);
    // ESRCH: it ended between the opening and the reading.
    if (code !== 'ENOENT' && code !== 'ESRCH') return 'unreadable';
    // With hidepid=2 there is no folder of what this user is not allowed to look at, its own processes included.
    return mayBeSignalled(pid) ? 'unreadable' : undefined;
  }
}

/** Needs no file descriptor. */
function exists(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return systemCodeOf(error) === 'EPERM';
  }
}

/** Whether there is such a process, and it is of this user. */
function mayBeSignalled(pid: number): boolean {
  try {
    return pid > 0 && process.kill(pid, 0);
  } catch {
    return false;
  }
}

let space: string | undefined;

function ownNamespace(): string | undefined {
  try {
    // `pid:[4026531836]`
    space ??= readlinkSync('/proc/self/ns/pid');
  } catch {
    space = '';
  }
  return space || undefined;
}

let boot: string | undefined;

/** Ticks since boot are no identity across boots. */
function bootId(): string {
  try {
    boot ??= readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').slice(0, 8);
  } catch {
    boot = '-';
  }
  return boot;
}

function lookWithPs(pid: number): Seen | undefined {
  try {
    const line = ps(['-o', 'stat=,lstart=', '-p', String(pid)]).trim();
    const [, state = '', startTime = ''] = /^(\S+)\s+(.+)$/.exec(line) ?? [];
    return { startTime, condition: conditionFrom(state) };
  } catch {
    return undefined;
  }
}

function conditionFrom(state: string): ProcessCondition {
  if (/^[ZX]/.test(state)) return 'dead';
  return /^[Tt]/.test(state) ? 'stopped' : 'running';
}

/** Every process whose command line can be read, as Envoy's is by its own user. */
export function commandLines(): { pid: number; text: string }[] {
  return process.platform === 'linux' ? linesInProc() : linesOfPs();
}

function linesInProc(): { pid: number; text: string }[] {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry) && Number(entry) !== process.pid)
    .flatMap((entry) => {
      try {
        return { pid: Number(entry), text: readFileSync(`/proc/${entry}/cmdline`, 'utf8') };
      } catch {
        // It ended while we looked, or is not ours.
        return [];
      }
    });
}

function linesOfPs(): { pid: number; text: string }[] {
  return ps(['-axo', 'pid=,command='])
    .split('\n')
    .map((text) => ({ pid: Number.parseInt(text, 10), text }));
}

/** The lines of `ps` with these columns: of one process, or of all. */
export function psRows(columns: string, pid?: number): string[] {
  const which = pid === undefined ? ['-ax'] : ['-p', String(pid)];
  return ps([...which, '-o', columns])
    .trim()
    .split('\n');
}

function ps(args: string[]): string {
  return execFileSync('ps', args, { encoding: 'utf8', timeout: 5_000 });
}
