import { loadConfig } from '../../src/config/load.js';
import { createHostDrain, type HostDrain } from '../../src/drain/host-drain.js';
import type { Located } from '../../src/drain/locate.js';
import { type DrainLedger, type DrainRecord, openLedger } from '../../src/drain/record.js';
import type { DrainConfig } from '../../src/drain/run.js';
import { type DrainResult, SHUTDOWN_EVENTS } from '../../src/drain/state.js';
import { silentLog } from '../../src/log.js';
import type { HookFunction, PluginHost } from '../../src/plugins/api/types.js';
import { DrainPlugin } from '../../src/plugins/drain-plugin.js';
import { createPluginHost } from '../../src/plugins/host.js';
import { createSimClock, type SimClock } from './sim-clock.js';
import { type AdminMode, createSimAdmin, type Look, type SimEnvoy } from './sim-envoy.js';
import { createMachine, type Machine, type ProcessState, type SimProcess } from './sim-machine.js';

/** What happens to the world from outside. An undo of the drain is one more of these. */
export type Action =
  /** Somebody asks for the drain; a process that is dead is started anew before. */
  | { kind: 'call'; who: number }
  | { kind: 'turn'; who: number; state: ProcessState }
  /** The manager (process 0) is started anew, and looks after the drain. */
  | { kind: 'restart manager' }
  /** Clients come (while listeners are open) and go. */
  | { kind: 'connections'; change: number; busy: number }
  | { kind: 'admin'; mode: AdminMode }
  | { kind: 'envoy ends' }
  /** Another Envoy takes the place of the one that has ended. */
  | { kind: 'envoy starts' }
  | { kind: 'disk'; isFull: boolean }
  /** Somebody meddles with the drain record. */
  | { kind: 'record'; content: string | undefined }
  /** Of two that take over in one instant, both have read the record before either writes it. */
  | { kind: 'race' };

/** What does not change while the world goes on. */
export interface WorldOptions {
  config: DrainConfig;
  /** An Envoy at admin-address, whose process nobody knows. */
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
}

/** A host with an Envoy and several processes that may drain it, over virtual time. */
export interface World {
  readonly clock: SimClock;
  readonly callers: readonly Caller[];
  readonly leads: readonly Lead[];
  readonly writes: readonly Written[];
  readonly looks: readonly Look[];
  readonly envoys: readonly SimEnvoy[];
  /** The disk was full, or somebody meddled with a record: nobody can promise one drain then. */
  wasMeddledWith(): boolean;
  /** Where the drain of an Envoy is written down. */
  fileOf(envoy: SimEnvoy): string;
  /** Whether a manager runs that looks after abandoned drains. */
  isWatched(): boolean;
  act(action: Action): void;
  /** How long, in all, two processes have led one drain at once. */
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
  let isRacing = false;
  let manager: Host | undefined;
  let overlapMs = 0;

  const newest = (): SimEnvoy | undefined => envoys.at(-1);
  const startEnvoy = (open: number): void => {
    envoys.push({
      process: machine.start(),
      startedAtMs: clock.nowMs(),
      open,
      busy: open,
      accepted: open,
      mode: 'answering',
      failedAtMs: undefined,
      closedAtMs: undefined,
    });
  };
  const fileOf = (envoy: SimEnvoy): string =>
    options.foreign ? '/sim/shutdown-id.json' : `/sim/${envoys.indexOf(envoy)}/shutdown.json`;
  const startHost = (): Host =>
    createHost({
      ...options,
      machine,
      clock,
      newest,
      fileOf,
      leads,
      noteLeads,
      looks,
      deadlineOf: signals.deadlineOf,
    });

  machine.onWrite = (file) => {
    // A decision is no record.
    if (!file.endsWith('.json')) return;
    const text = machine.files.get(file) ?? '';
    const record = JSON.parse(text) as DrainRecord;
    const before = writes.findLast((written) => written.file === file)?.record;
    writes.push({ file, atMs: clock.nowMs(), by: machine.active(), record });
    const isTakeover = before && before.leader.pid !== record.leader.pid && !record.result;
    if (!isRacing || !isTakeover) return;
    const rival = slots.find(
      (host) => host && isFollowing(host) && host.process.identity.pid !== record.leader.pid,
    );
    if (!rival) return;
    isRacing = false;
    const theirs = { ...record, leader: rival.process.identity };
    machine.files.set(file, JSON.stringify(theirs));
    writes.push({ file, atMs: clock.nowMs(), by: rival.process, record: theirs });
  };

  let notedAtMs = clock.nowMs();
  let doLeadTwice = false;
  /** Called whenever somebody begins or ends to lead. */
  const noteLeads = (): void => {
    if (doLeadTwice) overlapMs += clock.nowMs() - notedAtMs;
    notedAtMs = clock.nowMs();
    const files = leads
      .filter(({ who, toMs }) => toMs === undefined && who.state() === 'running')
      .map(({ file }) => file);
    doLeadTwice = new Set(files).size < files.length;
  };

  const isFollowing = ({ process, isDraining }: Host): boolean => {
    const doesLead = leads.some(({ who, toMs }) => who === process && toMs === undefined);
    return process.state() === 'running' && isDraining() && !doesLead;
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
        return;
      case 'envoy starts':
        envoy?.process.turn('dead');
        startEnvoy(options.open);
        return;
      case 'disk':
        machine.isFull = action.isFull;
        isMeddledWith ||= action.isFull;
        return;
      case 'record': {
        const file = envoy && fileOf(envoy);
        if (!file || !machine.files.has(file)) return;
        isMeddledWith = true;
        if (action.content === undefined) machine.files.delete(file);
        else machine.files.set(file, action.content);
        return;
      }
      case 'race':
        isRacing = true;
    }
  };

  startEnvoy(options.open);
  return {
    clock,
    callers,
    leads,
    writes,
    looks,
    envoys,
    wasMeddledWith: () => isMeddledWith,
    fileOf,
    isWatched: () => manager?.process.state() === 'running',
    act,
    overlapMs: () => {
      noteLeads();
      return overlapMs;
    },
    close: () => {
      for (const host of slots) host?.process.turn('dead');
      signals.restore();
      machine.restore();
    },
  };
}

/** A process of pm2-envoy that may drain. */
interface Host {
  readonly process: SimProcess;
  drain(): Promise<DrainResult>;
  /** As the manager does: goes on with a drain whose leader has died. */
  watch(): Promise<void>;
  isDraining(): boolean;
}

function createHost(
  context: WorldOptions & {
    machine: Machine;
    clock: SimClock;
    newest: () => SimEnvoy | undefined;
    fileOf: (envoy: SimEnvoy) => string;
    leads: Lead[];
    noteLeads: () => void;
    looks: Look[];
    deadlineOf: (signal: AbortSignal | undefined) => number;
  },
): Host {
  const { machine, clock, newest, fileOf, leads, looks, foreign } = context;
  const process = machine.start();
  const adminOf = (envoyAt: () => SimEnvoy | undefined) =>
    createSimAdmin({ ...context, by: process, envoyAt, onLook: (look) => looks.push(look) });
  const address = adminOf(newest);

  const locate = async (): Promise<Located | undefined> => {
    const envoy = newest();
    if (foreign) {
      const limit = AbortSignal.timeout(1_000);
      const info = await address.serverInfo(limit).catch(() => undefined);
      const startedAtMs = info && clock.nowMs() - info.uptimeSeconds * 1_000;
      return locatedOf({ name: 'Envoy', admin: address, process: undefined, startedAtMs }, envoy);
    }
    await process.wait(1);
    if (!envoy || envoy.process.state() === 'dead') return undefined;
    const { identity } = envoy.process;
    const openFiles = (): number | undefined =>
      envoy.process.state() === 'dead' ? undefined : OWN_FILES + envoy.open;
    return locatedOf(
      { name: 'generation', admin: adminOf(() => envoy), process: identity, openFiles },
      envoy,
    );
  };
  const locatedOf = (newest: Located['newest'], envoy: SimEnvoy | undefined): Located => ({
    targets: [newest],
    newest,
    generation: undefined,
    latest: newest.process,
    envoyStartedAtMs: newest.startedAtMs,
    ledger: ledgerAt(envoy ? fileOf(envoy) : '/sim/none', newest.startedAtMs),
  });
  const ledgerAt = (file: string, envoyStartedAtMs: number | undefined): DrainLedger => {
    const self = process.identity;
    const more = foreign ? { foreign: { envoyStartedAtMs } } : {};
    const ledger = openLedger({ file, log: silentLog, self, ...more });
    return {
      ...ledger,
      claim: (fresh, nowMs) => {
        lastFile = file;
        return ledger.claim({ ...fresh, leader: self }, nowMs);
      },
    };
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
    locator: { locate },
    config,
    host: { run },
    log: silentLog,
    clock: clockOfOurs,
  };
  const hostDrain: HostDrain = createHostDrain(options);

  return {
    process,
    drain: () => hostDrain.drain(),
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
