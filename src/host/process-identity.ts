import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { systemCodeOf } from '../errors.js';

/** A process that can't be mistaken for a later one with the same pid. */
export interface ProcessIdentity {
  pid: number;
  /** When it started, in the system's own words; equal for the same process only. */
  startTime: string;
}

/** How a process stands: a zombie is `dead`; `stopped` is SIGSTOP or a debugger. */
export type ProcessCondition = 'running' | 'stopped' | 'dead';

/** The identity of a live process; undefined when there is none with this pid. */
export function identify(pid: number): ProcessIdentity | undefined {
  const seen = look(pid);
  if (!seen || seen === 'unreadable' || seen.condition === 'dead') return undefined;
  return { pid, startTime: seen.startTime };
}

let own: ProcessIdentity | undefined;

/** This process. */
export function ownIdentity(): ProcessIdentity {
  own ??= identify(process.pid);
  return own ?? { pid: process.pid, startTime: 'unknown' };
}

/**
 * The condition of exactly this process; one that took over its pid does not count. One that exists
 * but can't be looked at (no file descriptor is left, say) counts as running: taking an Envoy for
 * dead would end its drain with connections open.
 */
export function conditionOf(identity: ProcessIdentity): ProcessCondition {
  const seen = look(identity.pid);
  if (seen === 'unreadable') return exists(identity.pid) ? 'running' : 'dead';
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
  return a !== undefined && b !== undefined && a.pid === b.pid && a.startTime === b.startTime;
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
  const pid = process.platform === 'linux' ? findInProc(text) : findWithPs(text);
  return pid === undefined ? undefined : identify(pid);
}

interface Seen {
  startTime: string;
  condition: ProcessCondition;
}

/** Undefined: there is no such process. */
function look(pid: number): Seen | 'unreadable' | undefined {
  return process.platform === 'linux' ? lookInProc(pid) : lookWithPs(pid);
}

/** /proc/PID/stat: the state is field 3 and the start time, in clock ticks since boot, field 22 (proc(5)). */
function lookInProc(pid: number): Seen | 'unreadable' | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The command's name, in parentheses, may hold spaces and parentheses itself.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return { startTime: `${bootId()}:${fields[19]}`, condition: conditionFrom(fields[0] ?? '') };
  } catch (error) {
    const code = systemCodeOf(error);
    // ESRCH: it ended between the opening and the reading.
    return code === 'ENOENT' || code === 'ESRCH' ? undefined : 'unreadable';
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

function findInProc(text: string): number | undefined {
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry) || Number(entry) === process.pid) continue;
    try {
      if (readFileSync(`/proc/${entry}/cmdline`, 'utf8').includes(text)) return Number(entry);
    } catch {
      // It ended while we looked, or is not ours.
    }
  }
  return undefined;
}

function findWithPs(text: string): number | undefined {
  const line = ps(['-axo', 'pid=,command='])
    .split('\n')
    .find((row) => row.includes(text));
  return line === undefined ? undefined : Number.parseInt(line, 10);
}

function ps(args: string[]): string {
  return execFileSync('ps', args, { encoding: 'utf8', timeout: 5_000 });
}
