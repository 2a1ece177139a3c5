import type { AdminClient } from '../../src/admin/client.js';
import { loadConfig } from '../../src/config/load.js';
import type { EnvoyTarget } from '../../src/drain/envoys.js';
import { createHostDrain, type HostDrain } from '../../src/drain/host-drain.js';
import { createGenerationLocator, type Located, type NoEnvoy } from '../../src/drain/locate.js';
import { type DrainRecord, openLedger } from '../../src/drain/record.js';
import type { DrainConfig } from '../../src/drain/run.js';
import { type DrainResult, SHUTDOWN_EVENTS } from '../../src/drain/state.js';
import type { Generation, Generations } from '../../src/host/generations.js';
import { sameProcess } from '../../src/host/process-identity.js';
import { silentLog } from '../../src/log.js';
import type { HookFunction, PluginHost } from '../../src/plugins/api/types.js';
import { DrainPlugin } from '../../src/plugins/drain-plugin.js';
import { createPluginHost } from '../../src/plugins/host.js';
import { openHold } from '../../src/runner/drain-meanwhile.js';
import { createSimClock, type SimClock } from './sim-clock.js';
import { type AdminMode, createSimAdmin, type Look, type SimEnvoy } from './sim-envoy.js';
import { createMachine, type Machine, type ProcessState, type SimProcess } from './sim-machine.js';

/** What happens to the world from outside. An undo of the drain is one more of these. */
export type Action =
  /** Someone asks for the drain; a process that is dead is started again before. */
  | { kind: 'call'; who: number }
  | { kind: 'turn'; who: number; state: ProcessState }
  /** The manager (process 0) is started again, and looks after the drain. */
  | { kind: 'restart manager' }
  /** Clients come (while listeners are open) and go. */
  | { kind: 'connections'; change: number; busy: number }
  | { kind: 'admin'; mode: AdminMode }
  /** A crash. pm2 starts a runner again by itself, unless Envoy is none of pm2-envoy's. */
  | { kind: 'envoy ends' }
  /** Someone asks for another Envoy, which takes the place of the one that ends now. */
  | { kind: 'envoy starts' }
  /** Someone reloads: another Envoy comes up beside the one in service, or fails to. */
  | { kind: 'reload'; fails: boolean }
  | { kind: 'resume'; who: number }
  | { kind: 'disk'; isFull: boolean }
  /** Someone meddles with the drain record. */
  | { kind: 'record'; content: string | undefined };

/** What does not change while the world goes on. */
export interface WorldOptions {
  config: DrainConfig;
  /** An Envoy at admin-address, whose process no one knows. */
  foreign: boolean;
  latencyMs: number;
  /** How long the hook before each event takes. */
  hookMs: number;
  open: number;
}

/** One caller of the drain, and what it was told. */
export interface Caller {
  who: SimProcess;
  calledAtMs: number;
  /** The Envoy that it finds, unless its process is busy with the drain of an earlier one. */
  envoy: SimEnvoy | undefined;
  answer?: { atMs: number; result: DrainResult };
}

/** A stretch of time in which a process goes through the events of a drain. */
export interface Lead {
  who: SimProcess;
  file: string;
  fromMs: number;
  toMs?: number;
}

/** A record as it was written. */
export interface Written {
  file: string;
  atMs: number;
  by: SimProcess | undefined;
  record: DrainRecord;
  /** Of the Envoys that serve, or did: what they have open, and how many still take connections. */
  host: { open: number; busy: number; taking: number };
}

/** A host with an Envoy and several processes that may drain it, over virtual time. */
export interface World {
  readonly clock: SimClock;
  readonly callers: readonly Caller[];
  readonly leads: readonly Lead[];
  readonly writes: readonly Written[];
  readonly looks: readonly Look[];
  readonly envoys: readonly SimEnvoy[];
  /** The disk was full, or someone meddled with a record: no one can promise one drain then. */
  wasMeddledWith(): boolean;
  /** Whether a drain was about an Envoy. */
  isOf(envoy: SimEnvoy, written: Written): boolean;
  /** When Envoys took connections of a host that no one had asked for since it was drained. */
  readonly wrongs: readonly string[];
  /** Whether a manager runs that looks after abandoned drains. */
  isWatched(): boolean;
  act(action: Action): void;
  /** How long, in all, two processes have led one drain at the same time. */
  overlapMs(): number;
  close(): void;
}

const { config: wholeConfig } = loadConfig({ env: {}, cwd: '/nowhere' });
const WATCH_MS = 5_000;

export function createWorld(options: WorldOptions): World {
  const clock = createSimClock();
  const machine = createMachine(clock);
  const signals = patchSignals(clock);
  const callers: Caller[] = [];
  const leads: Lead[] = [];
  const writes: Written[] = [];
  const looks: Look[] = [];
  const envoys: SimEnvoy[] = [];
  const slots: (Host | undefined)[] = [];
  let isMeddledWith = false;
  let manager: Host | undefined;
  let overlapMs = 0;

  const wrongs: string[] = [];
  const wallClock = patchDate(clock);
  let reserved = 0;
  /** Since when the host is out of service, on the wall clock. */
  let outSinceMs: number | undefined;

  const isUp = (envoy: SimEnvoy): boolean => envoy.process.state() !== 'dead';
  const isServing = (envoy: SimEnvoy): boolean => isUp(envoy) && envoy.generation?.ready !== false;
  const newest = (): SimEnvoy | undefined =>
    envoys.findLast(isServing) ?? (options.foreign ? envoys.at(-1) : envoys.findLast(isUp));
  const addEnvoy = (open: number, generation: Generation | undefined): SimEnvoy => {
    const envoy: SimEnvoy = {
      process: machine.start(),
      startedAtMs: clock.nowMs(),
      ...{ open, busy: open, accepted: open, mode: 'answering', generation },
      ...{ failedAtMs: undefined, closedAtMs: undefined },
    };
    if (generation) envoy.generation = { ...generation, envoy: envoy.process.identity };
    envoys.push(envoy);
    return envoy;
  };
  const generations: SimGenerations = {
    live: () => envoys.filter(isUp).flatMap(({ generation }) => generation ?? []),
    isAnyReserved: () => reserved > 0,
    lastAfterDrain: () =>
      Math.max(0, ...envoys.map(({ generation }) => generation?.afterDrain ?? 0)),
    envoyOf: ({ number }) => envoys.find(({ generation }) => generation?.number === number),
  };
  const serve = (envoy: SimEnvoy, isAsked: boolean): void => {
    envoy.generation = envoy.generation && { ...envoy.generation, ready: true };
    envoy.open = options.open;
    if (outSinceMs !== undefined && !isAsked) wrongs.push(`it serves again at ${clock.nowMs()}`);
  };
  /** A runner that pm2 starts, by itself or as someone has asked for it. */
  const startRunner = async (how: { isAsked: boolean; fails?: boolean }): Promise<void> => {
    const host = startHost();
    const { process } = host;
    const askedAtMs = Date.now();
    if (how.isAsked && (outSinceMs ?? askedAtMs) < askedAtMs) outSinceMs = undefined;
    const created_at = String(how.isAsked ? askedAtMs : 1);
    const hold = openHold(RUN_DIR, generations as unknown as Generations, {
      pm_id: '0',
      created_at,
    });
    for (;;) {
      while (hold.drain()) await process.wait(100);
      await process.wait(BOOT_MS);
      reserved += 1;
      if (hold.drain()) {
        reserved -= 1;
        continue;
      }
      const number = envoys.length + 1;
      const runner = process.identity;
      const envoy = addEnvoy(0, {
        ...someGeneration(number),
        ...{ runner, afterDrain: hold.afterDrain() },
      });
      await process.wait(1);
      reserved -= 1;
      const liveAtMs = clock.nowMs() + LIVE_MS;
      while (clock.nowMs() < liveAtMs && !hold.drain()) await process.wait(100);
      if (how.fails || hold.drain()) {
        envoy.process.turn('dead');
        if (how.fails) return process.turn('dead');
        continue;
      }
      serve(envoy, how.isAsked || hold.afterDrain() > 0);
      if (hold.drain()) void host.drain();
      else handOverTo(envoy);
      return;
    }
  };
  const handOverTo = (envoy: SimEnvoy): void => {
    for (const older of envoys.filter((one) => one !== envoy && isServing(one))) {
      older.closedAtMs ??= clock.nowMs();
      clock.at(clock.nowMs() + 500, () => older.process.turn('dead'));
    }
  };
  const startHost = (): Host =>
    createHost({
      ...options,
      machine,
      clock,
      newest,
      generations,
      leads,
      noteLeads,
      looks,
      deadlineOf: signals.deadlineOf,
    });

  machine.onWrite = (path) => {
    const [, file, kind] = /drains\/(\w+-\d+)(-\d+|\.result)\.json$/.exec(path) ?? [];
    if (!file || !kind) return;
    const json = JSON.parse(machine.files.get(path) ?? '') as object;
    const before = writes.findLast((written) => written.file === file)?.record;
    const { startedAtMs: _, ...result } = json as { startedAtMs?: number };
    const record = (kind === '.result' ? { ...before, result } : json) as DrainRecord;
    const serving = envoys.filter(isServing);
    const host = {
      open: serving.reduce((sum, { open }) => sum + open, 0),
      busy: serving.reduce((sum, { busy }) => sum + busy, 0),
      taking: serving.filter(({ closedAtMs }) => closedAtMs === undefined).length,
    };
    writes.push({ file, atMs: clock.nowMs(), by: machine.active(), record, host });
    const outcome = record.result?.outcome;
    if (!options.foreign && outcome && outcome !== 'cancelled') {
      outSinceMs = Date.parse(record.startedAt);
    }
  };

  let notedAtMs = clock.nowMs();
  let doLeadTwice = false;
  /** Called whenever someone begins or ends to lead. */
  const noteLeads = (): void => {
    if (doLeadTwice) overlapMs += clock.nowMs() - notedAtMs;
    notedAtMs = clock.nowMs();
    const files = leads
      .filter(({ who, toMs }) => toMs === undefined && who.state() === 'running')
      .map(({ file }) => file);
    doLeadTwice = new Set(files).size < files.length;
  };

  const act = (action: Action): void => {
    const envoy = newest();
    switch (action.kind) {
      case 'call': {
        const host = alive(slots[action.who]) ?? startHost();
        slots[action.who] = host;
        const isFree = host.process.state() === 'running' && !host.isDraining();
        const found = envoy?.process.state() === 'dead' || !isFree ? undefined : envoy;
        const caller: Caller = { who: host.process, calledAtMs: clock.nowMs(), envoy: found };
        callers.push(caller);
        host.process.act(() => {
          void host.drain().then((result) => {
            caller.answer = { atMs: clock.nowMs(), result };
          });
        });
        return;
      }
      case 'turn':
        slots[action.who]?.process.turn(action.state);
        noteLeads();
        return;
      case 'restart manager': {
        slots[0]?.process.turn('dead');
        noteLeads();
        const started = startHost();
        manager = started;
        slots[0] = started;
        started.process.act(() => void started.watch());
        return;
      }
      case 'resume': {
        const host = alive(slots[action.who]) ?? startHost();
        slots[action.who] = host;
        host.process.act(() => {
          void host.resume().then((isBack) => {
            if (isBack) outSinceMs = undefined;
          });
        });
        return;
      }
      case 'connections':
        if (!envoy || envoy.process.state() === 'dead') return;
        if (action.change > 0 && envoy.closedAtMs !== undefined) return;
        envoy.open = Math.max(0, envoy.open + action.change);
        envoy.accepted += Math.max(0, action.change);
        envoy.busy = Math.min(envoy.open, action.busy);
        return;
      case 'admin':
        if (envoy) envoy.mode = action.mode;
        return;
      case 'envoy ends':
        envoy?.process.turn('dead');
        if (!options.foreign) void startRunner({ isAsked: false });
        return;
      case 'envoy starts':
        envoy?.process.turn('dead');
        if (options.foreign) addEnvoy(options.open, undefined);
        else void startRunner({ isAsked: true });
        return;
      case 'reload':
        if (!options.foreign) void startRunner({ isAsked: true, fails: action.fails });
        return;
      case 'disk':
        machine.isFull = action.isFull;
        isMeddledWith ||= action.isFull;
        return;
      case 'record': {
        const last = [...machine.files.keys()].findLast((file) =>
          /drains\/\w+-\d+-\d+\.json$/.test(file),
        );
        if (!last) return;
        isMeddledWith = true;
        if (action.content === undefined) machine.files.delete(last);
        else machine.files.set(last, action.content);
      }
    }
  };

  const first = options.foreign ? undefined : { ...someGeneration(1), ready: true, afterDrain: 0 };
  addEnvoy(options.open, first);
  return {
    clock,
    callers,
    leads,
    writes,
    looks,
    envoys,
    wasMeddledWith: () => isMeddledWith,
    isOf: (envoy, { record }) =>
      options.foreign || record.envoys.some((one) => sameProcess(one, envoy.process.identity)),
    wrongs,
    isWatched: () => manager?.process.state() === 'running',
    act,
    overlapMs: () => {
      noteLeads();
      return overlapMs;
    },
    close: () => {
      for (const host of slots) host?.process.turn('dead');
      wallClock.restore();
      signals.restore();
      machine.restore();
    },
  };
}

/** A process of pm2-envoy that may drain. */
interface Host {
  readonly process: SimProcess;
  drain(): Promise<DrainResult>;
  /** Whether the host is back. */
  resume(): Promise<boolean>;
  /** As the manager does: goes on with a drain whose leader has died. */
  watch(): Promise<void>;
  isDraining(): boolean;
}

function createHost(
  context: WorldOptions & {
    machine: Machine;
    clock: SimClock;
    newest: () => SimEnvoy | undefined;
    generations: SimGenerations;
    leads: Lead[];
    noteLeads: () => void;
    looks: Look[];
    deadlineOf: (signal: AbortSignal | undefined) => number;
  },
): Host {
  const { machine, clock, newest, generations, leads, looks, foreign } = context;
  const process = machine.start();
  const adminOf = (envoyAt: () => SimEnvoy | undefined) =>
    createSimAdmin({ ...context, by: process, envoyAt, onLook: (look) => looks.push(look) });
  const address = adminOf(newest);

  const self = process.identity;
  const noted = <T extends NoEnvoy>(found: T): T => ({
    ...found,
    ledger: {
      ...found.ledger,
      claim: (fresh: DrainRecord, nowMs: number) => {
        const claimed = found.ledger.claim(fresh, nowMs);
        lastFile = String(claimed.record.number);
        return claimed;
      },
    },
  });
  const locateForeign = async (): Promise<Located> => {
    const limit = AbortSignal.timeout(1_000);
    const info = await address.serverInfo(limit).catch(() => undefined);
    const envoyStartedAtMs = info && clock.nowMs() - info.uptimeSeconds * 1_000;
    const target = { name: 'Envoy', admin: address, process: undefined };
    const newest = { ...target, startedAtMs: envoyStartedAtMs };
    const more = { foreign: { envoyStartedAtMs }, log: silentLog, self };
    return noted({
      ...{ targets: [newest], newest, generation: undefined, envoyStartedAtMs, now: undefined },
      ...{ applies: () => true, covers: () => true },
      ledger: openLedger({ base: `${RUN_DIR}/drains/id`, ...more }),
    });
  };
  const clients = new Map<number, AdminClient>();
  const targetAt = (generation: Generation): EnvoyTarget => {
    const envoy = generations.envoyOf(generation);
    const admin = clients.get(generation.number) ?? adminOf(() => envoy);
    clients.set(generation.number, admin);
    const openFiles = (): number | undefined =>
      envoy?.process.state() === 'dead' ? undefined : OWN_FILES + (envoy?.open ?? 0);
    return { name: 'generation', admin, process: generation.envoy, generation, openFiles };
  };
  const more = { generations, targetAt, runDir: RUN_DIR, log: silentLog, self };
  const ofHost = createGenerationLocator(more);
  const locate = async (): Promise<Located | undefined> => {
    if (foreign) return locateForeign();
    await process.wait(1);
    const located = await ofHost.locate();
    return located && noted(located);
  };
  let lastFile = '';

  const clockOfOurs = {
    nowMs: clock.nowMs,
    sleep: async (ms: number) => {
      if (!(ms > 0)) throw new RangeError(`slept for ${ms} ms: that would be a busy loop`);
      await process.wait(ms);
    },
  };
  const host = createPluginHost({
    config: wholeConfig,
    log: silentLog,
    plugins: [
      { name: 'slow', create: slowPlugin(process, context.hookMs), options: {}, builtIn: true },
      { name: 'drain', create: DrainPlugin, options: {}, builtIn: true },
    ],
  });
  const run: PluginHost['run'] = async (command, call) => {
    const lead: Lead = { who: process, file: lastFile, fromMs: clock.nowMs() };
    leads.push(lead);
    context.noteLeads();
    await host.run(command, call).finally(() => {
      lead.toMs = clock.nowMs();
      context.noteLeads();
    });
  };
  const { config } = context;
  // The clock is for the drainer: the host's drain hands on what it is given.
  const options = {
    locator: foreign ? { locate } : { locate, whenNone: () => noted(ofHost.whenNone()) },
    config,
    host: { run },
    log: silentLog,
    clock: clockOfOurs,
  };
  const hostDrain: HostDrain = createHostDrain(options);

  return {
    process,
    drain: () => hostDrain.drain({ kind: 'http' }),
    resume: async () => (await hostDrain.resume()).kind === 'resumed',
    watch: async () => {
      for (;;) {
        const located = await locate();
        if (hostDrain.state(located).kind === 'draining') await hostDrain.resumeAbandoned();
        await process.wait(WATCH_MS);
      }
    },
    isDraining: () => hostDrain.state(undefined).kind === 'draining',
  };
}

function alive(host: Host | undefined): Host | undefined {
  return host?.process.state() === 'dead' ? undefined : host;
}

/** A plugin whose hooks take their time, so that a leader can die between any two events. */
/** What an Envoy has open besides its connections. */
const OWN_FILES = 40;

function slowPlugin(process: SimProcess, hookMs: number) {
  const slow: HookFunction = () => (hookMs > 0 ? process.wait(hookMs) : undefined);
  return class {
    readonly hooks = Object.fromEntries(
      SHUTDOWN_EVENTS.map((event) => [`before:shutdown:${event}`, slow]),
    );
  };
}

/** Of the run directory of the simulated machine, where its generations are. */
interface SimGenerations extends Pick<Generations, 'live' | 'isAnyReserved' | 'lastAfterDrain'> {
  envoyOf(generation: Generation): SimEnvoy | undefined;
}

const RUN_DIR = '/sim/run';
/** From a runner's start to the folder of its generation, and from there to its first connection. */
const BOOT_MS = 300;
const LIVE_MS = 800;

function someGeneration(number: number): Generation {
  const nobody = { pid: 0, startTime: 'nobody' };
  return {
    ...{ number, directory: `${RUN_DIR}/generations/${number}`, adminSocket: `/sim/${number}` },
    ...{ envoy: nobody, runner: nobody, supervisor: undefined, version: '1.40.0' },
    ...{ launch: undefined, startedAt: new Date().toISOString(), ready: false, orphaned: false },
  };
}

/** Lets the wall clock go with the virtual one. */
function patchDate(clock: SimClock): { restore: () => void } {
  const original = globalThis.Date;
  const nowMs = (): number => 1_800_000_000_000 + clock.nowMs();
  class SimDate extends original {
    constructor(value?: number | string) {
      super(value ?? nowMs());
    }
    static override now(): number {
      return nowMs();
    }
  }
  globalThis.Date = SimDate as DateConstructor;
  return {
    restore: () => {
      globalThis.Date = original;
    },
  };
}

/** Lets AbortSignal.timeout keep the virtual time. */
function patchSignals(clock: SimClock): {
  deadlineOf: (signal: AbortSignal | undefined) => number;
  restore: () => void;
} {
  const deadlines = new WeakMap<AbortSignal, number>();
  const original = AbortSignal.timeout;
  AbortSignal.timeout = (ms) => {
    const { signal } = new AbortController();
    deadlines.set(signal, clock.nowMs() + ms);
    return signal;
  };
  return {
    deadlineOf: (signal) => (signal && deadlines.get(signal)) ?? Number.POSITIVE_INFINITY,
    restore: () => {
      AbortSignal.timeout = original;
    },
  };
}
