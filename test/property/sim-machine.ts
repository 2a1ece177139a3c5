import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { identify, type ProcessIdentity } from '../../src/host/process-identity.js';
import type { SimClock } from './sim-clock.js';

/** `stuck` runs by all appearances, but does nothing; `stopped` is SIGSTOP. */
export type ProcessState = 'running' | 'stuck' | 'stopped' | 'dead';

/** A process of the simulated machine: what it does stops when it does. */
export interface SimProcess {
  readonly identity: ProcessIdentity;
  state(): ProcessState;
  turn(state: ProcessState): void;
  /** Resolves after `ms`, once the process runs; never when it is dead. */
  wait(ms: number): Promise<void>;
  /** Does something as this process. */
  act(action: () => void): void;
}

/** A machine with processes and files of its own, in memory; see {@link createMachine}. */
export interface Machine {
  start(): SimProcess;
  /** The process that is doing something right now. */
  active(): SimProcess | undefined;
  files: Map<string, string>;
  /** No file can be written. */
  isFull: boolean;
  /** Told of each file that is there again, or has another content. */
  onWrite: (path: string) => void;
  restore(): void;
}

const ROOT = '/sim/';
/** Above the largest pid of Linux: never one of this machine. */
const FIRST_PID = 5_000_000;

/**
 * Puts processes of a simulated machine into /proc, and files below /sim, for all that reads and writes
 * them by node:fs. `restore` takes them away.
 */
export function createMachine(clock: SimClock): Machine {
  const processes: SimProcess[] = [];
  let active: SimProcess | undefined;
  const machine: Machine = {
    files: new Map(),
    isFull: false,
    onWrite: () => undefined,
    active: () => active,
    start: () => {
      const process = createProcess(FIRST_PID + processes.length, clock, (current) => {
        active = current;
      });
      processes.push(process);
      // Its identity is read as that of any process.
      const identity = identify(FIRST_PID + processes.length - 1);
      if (!identity) throw new Error('the simulated process is not in /proc');
      Object.assign(process.identity, identity);
      return process;
    },
    restore: patchFs(
      () => machine,
      (pid) => processes[pid - FIRST_PID]?.state(),
    ),
  };
  return machine;
}

function createProcess(
  pid: number,
  clock: SimClock,
  enter: (process: SimProcess) => void,
): SimProcess {
  let state: ProcessState = 'running';
  let held: (() => void)[] = [];
  const deliver = (action: () => void): void => {
    if (state === 'dead') return;
    if (state !== 'running') {
      held.push(action);
      return;
    }
    enter(process);
    action();
  };
  const process: SimProcess = {
    identity: { pid, startTime: '' },
    state: () => state,
    turn: (next) => {
      if (state === 'dead') return;
      state = next;
      if (state !== 'running') return;
      const actions = held;
      held = [];
      // One after another, each settled before the next.
      for (const action of actions) clock.at(clock.nowMs(), () => deliver(action));
    },
    wait: (ms) =>
      new Promise((resolve) => {
        // As Node's timers: whole milliseconds, at least one.
        clock.at(clock.nowMs() + Math.max(1, Math.ceil(ms)), () => deliver(resolve));
      }),
    act: deliver,
  };
  return process;
}

/** Returns what undoes it. */
function patchFs(
  machineOf: () => Machine,
  stateOf: (pid: number) => ProcessState | undefined,
): () => void {
  const original = {
    readFileSync: fs.readFileSync,
    writeFileSync: fs.writeFileSync,
    linkSync: fs.linkSync,
    renameSync: fs.renameSync,
    rmSync: fs.rmSync,
    mkdirSync: fs.mkdirSync,
    readdirSync: fs.readdirSync,
  };
  const platform = process.platform;
  const isOurs = (path: unknown): path is string =>
    typeof path === 'string' && path.startsWith(ROOT);
  const files = (): Map<string, string> => machineOf().files;
  const patched = {
    readFileSync: (path: string, ...rest: unknown[]) => {
      const pid = /^\/proc\/(\d+)\/stat$/.exec(String(path))?.[1];
      if (pid !== undefined && Number(pid) >= FIRST_PID) return statOf(stateOf(Number(pid)));
      if (!isOurs(path)) return Reflect.apply(original.readFileSync, fs, [path, ...rest]);
      return files().get(path) ?? fail('ENOENT', path);
    },
    writeFileSync: (path: string, data: string, ...rest: unknown[]) => {
      if (!isOurs(path)) return Reflect.apply(original.writeFileSync, fs, [path, data, ...rest]);
      if (machineOf().isFull) fail('ENOSPC', path);
      files().set(path, data);
    },
    linkSync: (from: string, to: string) => {
      if (!isOurs(from)) return original.linkSync(from, to);
      if (files().has(to)) fail('EEXIST', to);
      files().set(to, files().get(from) ?? fail('ENOENT', from));
      machineOf().onWrite(to);
    },
    renameSync: (from: string, to: string) => {
      if (!isOurs(from)) return original.renameSync(from, to);
      files().set(to, files().get(from) ?? fail('ENOENT', from));
      files().delete(from);
      machineOf().onWrite(to);
    },
    rmSync: (path: string, ...rest: unknown[]) => {
      if (!isOurs(path)) return Reflect.apply(original.rmSync, fs, [path, ...rest]);
      files().delete(path);
    },
    // Folders are there as soon as something is in them.
    mkdirSync: (path: string, ...rest: unknown[]) => {
      if (!isOurs(path)) return Reflect.apply(original.mkdirSync, fs, [path, ...rest]);
      if (machineOf().isFull) fail('ENOSPC', path);
    },
    readdirSync: (path: string, ...rest: unknown[]) => {
      if (!isOurs(path)) return Reflect.apply(original.readdirSync, fs, [path, ...rest]);
      const within = [...files().keys()].filter((file) => file.startsWith(`${path}/`));
      return [...new Set(within.map((file) => file.slice(path.length + 1).split('/')[0]))];
    },
  };
  Object.assign(fs, patched);
  Object.defineProperty(process, 'platform', { value: 'linux' });
  syncBuiltinESMExports();
  return () => {
    Object.assign(fs, original);
    Object.defineProperty(process, 'platform', { value: platform });
    syncBuiltinESMExports();
  };
}

/** As proc(5) has it: the state is field 3, the start time field 22. */
function statOf(state: ProcessState | undefined): string {
  if (state === undefined || state === 'dead') return fail('ENOENT', '/proc');
  const fillers = Array(18).fill('0').join(' ');
  return `1 (node) ${state === 'stopped' ? 'T' : 'S'} ${fillers} 4711`;
}

function fail(code: string, path: string): never {
  throw Object.assign(new Error(`${code}: ${path}`), { code });
}
