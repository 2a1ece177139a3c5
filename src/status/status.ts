import type { AdminClient } from '../admin/client.js';
import { busyOf, type ConnectionCount, sumConnections } from '../admin/stats.js';
import { type Clock, systemClock } from '../clock.js';
import type { Config } from '../config/config.js';
import type { DrainTimes } from '../config/grace-period.js';
import { type Timeline, timelineOf } from '../config/timeline.js';
import { type Counters, createCounters } from '../drain/count.js';
import type { EnvoyTarget } from '../drain/envoys.js';
import type { HostDrain } from '../drain/host-drain.js';
import {
  type EnvoyLocator,
  type Located,
  lookAtHost,
  openHandoverLedger,
} from '../drain/locate.js';
import type {
  DrainCourse,
  DrainOrigin,
  DrainOutcome,
  DrainPhase,
  DrainProgress,
  DrainState,
  DrainStep,
} from '../drain/state.js';
import { createWitness, type Witness } from '../drain/witness.js';
import type { FailedStart } from '../host/failed-start.js';
import { type Generation, isAttended } from '../host/generations.js';
import { silentLog } from '../log.js';
import { packageVersion } from '../package-root.js';
import { shareInFlight } from '../share.js';
import { readSteering, type SteeringState } from '../steering/layout.js';
import { createLooker, type Look, type Looker } from './look.js';
import { createPace, type Pace, type PacePoint } from './pace.js';
import { mergePeers, type Peer } from './peers.js';

/** The body of `GET /status`. */
export interface Status {
  /** `idle`, or the drain's phase. */
  phase: 'idle' | DrainPhase;
  /** Null while a drain runs, and without one. */
  outcome: DrainOutcome | null;
  /** When the drain began and when `drain-timeout` is over, as ISO 8601; null without one. */
  startedAt: string | null;
  deadline: string | null;
  timeLeftMs: number | null;
  connectionsAtStart: number | null;
  /** When the drain entered each of its phases; empty without one. */
  steps: DrainStep[];
  /** `check-delay` of the drain; null without one. */
  checkDelayMs: number | null;
  /** Who began the drain; null without one. */
  startedBy: DrainOrigin | null;
  /** When the listeners close: at the end of `check-delay` at the latest. Null outside of the delay. */
  listenersCloseAt: string | null;
  /** How long the drain took, and what was open at its end; null before that. */
  durationMs: number | null;
  connectionsLeft: number | null;
  /** When a drain's connections are cut at the latest, and by which timer; null: not known. */
  timers: Timeline | null;
  /** Envoy is DRAINING although no drain of pm2-envoy's runs, and could be resumed. */
  orphanedDrain: boolean;
  /** Envoy's listeners are closed although no drain of pm2-envoy's has closed them; nothing opens them again. */
  listenersClosed: boolean;
  /** A drain is under way, but no process leads it: nothing waits for its deadline. */
  abandonedDrain: boolean;
  /** Null: they can't be counted right now. */
  connections: Pick<ConnectionCount, 'open' | 'byListener' | 'byKind'> | null;
  activeRequests: number | null;
  /**
   * What a drain waits for until it is at `min-open-connections`: open connections, or with `drain-until`
   * `requests` what is busy. Null: it can't be counted right now.
   */
  holding: number | null;
  /** Between the last two looks; null: there was one only. */
  newConnectionsPerSecond: number | null;
  /** When the drain will be done if connections go on ending as they did lately; null: can't be told. */
  paceLeftMs: number | null;
  /** At most ten, oldest first; null: they can't be seen, and `oldestPeersNote` says why. */
  oldestPeers: Peer[] | null;
  oldestPeersNote: string | null;
  envoy: EnvoyStatus | null;
  /** Every Envoy of this host that pm2-envoy started, oldest first; `connections` is their sum. */
  generations: GenerationStatus[];
  /** Why there is no Envoy that serves: the runner's latest start has failed. Null while one serves. */
  failedStart: FailedStart | null;
  lastPoll: { at: string; tookMs: number } | null;
  lastError: string | null;
  /** Of the process that says all this. */
  settings: StatusSettings;
}

/** What a drain and what is shown of it depend on. */
export interface StatusSettings {
  /** Of pm2-envoy. */
  version: string;
  /** Null: pm2-envoy did not start this Envoy. */
  bootstrap: string | null;
  checkDelayMs: number;
  drainTimeoutMs: number;
  drainUntil: Config['drainUntil'];
  minOpenConnections: number;
}

/** The Envoy in service. */
export interface EnvoyStatus {
  /** Null: it does not answer. */
  state: string | null;
  /** Since when it has not answered, as ISO 8601; null: it does, or has not been asked. */
  silentSince: string | null;
  version: string | null;
  uptimeSeconds: number | null;
  concurrency: number | null;
  /** Listeners in effect: with none it serves nothing, LIVE or not. Null: it does not say. */
  listeners: number | null;
  admin: string;
  /** Null for an Envoy that pm2-envoy did not start. */
  pid: number | null;
  generation: number | null;
}

/** One generation. */
export interface GenerationStatus {
  number: number;
  /**
   * `handing-over`: a newer one serves, and this one's connections are waited for. `draining`, `drained`: the
   * host is, and it with it; or another tool has closed its listeners, and connections are left, or none.
   */
  state: 'starting' | 'serving' | 'handing-over' | 'draining' | 'drained';
  /** Null until it has been LIVE. */
  version: string | null;
  pid: number;
  /** Null: no one supervises it, and the next runner takes over from it. */
  runnerPid: number | null;
  /** ISO 8601 */
  startedAt: string;
  /** Null: they can't be counted right now. */
  connections: number | null;
  /** When a hand-over cuts what is left, as ISO 8601; null without one. */
  deadline: string | null;
  /** When its hand-over will be done if connections go on ending as they did lately; null: can't be told. */
  paceLeftMs: number | null;
  /** Why the latest attempt to replace it failed. */
  failedReload: { at: string; reason: string } | null;
  /** Its HTTP/3 and UDP; null: its bootstrap has no UDP listeners. */
  udp: GenerationUdp | null;
}

/** HTTP/3 and UDP of one generation. */
export interface GenerationUdp {
  /** `steered`: each packet reaches its generation, so a hand-over loses nothing. */
  state: SteeringState;
  /** Why it is unsteered. */
  reason: string | null;
  /** Open HTTP/3 connections and UDP sessions; null: they can't be counted right now. */
  http3: number | null;
  sessions: number | null;
}

/** What a status says of the drain where there is none. */
export const NO_DRAIN: Pick<
  Status,
  | 'outcome'
  | 'startedAt'
  | 'deadline'
  | 'timeLeftMs'
  | 'connectionsAtStart'
  | 'durationMs'
  | 'connectionsLeft'
  | 'listenersCloseAt'
  | 'steps'
  | 'checkDelayMs'
  | 'startedBy'
> = {
  outcome: null,
  startedAt: null,
  deadline: null,
  timeLeftMs: null,
  connectionsAtStart: null,
  durationMs: null,
  connectionsLeft: null,
  listenersCloseAt: null,
  steps: [],
  checkDelayMs: null,
  startedBy: null,
};

/** Reads the status of this host, again and again. */
export interface StatusReader {
  /**
   * What Envoy says, together with the drain. Never rejects. If Envoy is polled often, or its answers are expensive,
   * the counts are as old as `lastPoll` says ({@link Looker}).
   */
  read(): Promise<Status>;
  /** What is known without asking Envoy: the drain and the generations. Never rejects. */
  peek(): Promise<Status>;
  /** Open connections as they were read lately, oldest first. */
  history(): readonly PacePoint[];
}

/** What of the configuration is needed. */
export type StatusConfig = Pick<
  Config,
  | 'ignoreListeners'
  | 'drainUntil'
  | 'minOpenConnections'
  | 'checkDelayMs'
  | 'drainTimeoutMs'
  | 'envoyConfig'
  | 'adminAddress'
>;

/** Creates the reader; it remembers what rates and paces are made of. */
export function createStatusReader(options: {
  config: StatusConfig & DrainTimes;
  locator: EnvoyLocator;
  hostDrain: HostDrain;
  readFailedStart?: () => FailedStart | undefined;
  /** What is wrong with this process itself; the last error where there is no other. */
  standingError?: string;
  /** Told which Envoys and which drain each reading has found. */
  onLook?: (located: Located | undefined, drain: DrainState, open?: number) => void;
  /** Shared with all other code that counts in this process. */
  counters?: Counters;
  /** Shared with everything else that looks in this process. */
  witness?: Witness;
  /** pm2's, for the process that reads; left out: what follows from the configuration. */
  killTimeoutMs?: number | undefined;
  clock?: Clock;
}): StatusReader {
  const { config, locator, hostDrain, readFailedStart, onLook, clock = systemClock } = options;
  const { counters = createCounters({ ignoreListeners: config.ignoreListeners, clock }) } = options;
  const { witness = createWitness(clock) } = options;
  const lookersOf = createLookers((target) =>
    createLooker(target, { counter: counters.of(target), witness, clock }),
  );
  const history = createHistory(config, clock);
  const settings = settingsOf(config);
  const silence = createSilence();
  const paceOf = createPaces(clock);

  /** Which Envoys there are. Told right away: another look may be told of later ones meanwhile. */
  const locate = async (): Promise<Located | undefined> => {
    const located = await locator.locate();
    onLook?.(located, hostDrain.state(located), history.openNow());
    return located;
  };
  const describeAll = (located: Located | undefined, looks: readonly Look[]): Status => {
    const targets = located?.targets ?? [];
    const serving = looks.filter((_, index) => !isStarting(targets[index]));
    const newest = located && looks[targets.indexOf(located.newest)];
    const counts = serving.map(({ count }) => count).filter((count) => count !== undefined);
    const sum = located && counts.length === serving.length ? sumConnections(counts) : undefined;
    const state = hostDrain.state(located);
    const drain = drainPart(state, clock);
    const hostState = hostStateOf(state);
    return {
      ...drain,
      timers: timelineOf(config, options.killTimeoutMs),
      ...withoutDrain(state, newest),
      abandonedDrain: state.kind === 'draining' && !hostDrain.isUnderWay(located),
      connections: sum ? pickCount(sum) : null,
      activeRequests: sum?.activeRequests ?? null,
      holding: sum ? holdingOf(sum, config) : null,
      newConnectionsPerSecond: sumRates(serving),
      paceLeftMs: sum ? history.note(sum, drain.phase) : null,
      ...peersPart(serving),
      envoy: located ? describe(located, newest, silence(located, newest)) : null,
      generations: targets.flatMap((target, index) =>
        describeGeneration(target, { look: looks[index], hostState, paceOf, clock }),
      ),
      failedStart: !located || isStarting(located) ? (readFailedStart?.() ?? null) : null,
      lastPoll: serving.at(-1)?.poll ?? null,
      settings,
      lastError: hostDrain.current()?.lastError() ?? newest?.error ?? options.standingError ?? null,
    };
  };

  const look = async (located: Located | undefined): Promise<Status> => {
    const targets = located?.targets ?? [];
    const looks = lookersOf(targets).map(({ look }, index) =>
      isStarting(targets[index]) ? NOT_ASKED : look(),
    );
    return describeAll(located, await Promise.all(looks));
  };
  const read = (): Promise<Status> => lookAtHost({ locate }, look, isAmiss);
  const peek = async (): Promise<Status> => {
    const located = await locate();
    return describeAll(
      located,
      (located?.targets ?? []).map(() => NOT_ASKED),
    );
  };
  return { read: shareInFlight(read), peek, history: history.points };
}

/** Whether it shows what is true also of an Envoy that hands over, and ends. */
function isAmiss({ listenersClosed, orphanedDrain, lastError }: Status): boolean {
  return listenersClosed || orphanedDrain || lastError !== null;
}

/** A count that is older is not of now. */
const FRESH_MS = 2_000;

const NOT_ASKED: Look = { peers: { kind: 'unknown', reason: 'Envoy was not asked' } };

function sumRates(looks: readonly Look[]): number | null {
  const rates = looks.map(({ acceptedPerSecond }) => acceptedPerSecond);
  if (rates.length === 0 || rates.includes(undefined)) return null;
  const sum = rates.reduce<number>((total, rate) => total + (rate ?? 0), 0);
  return Number(sum.toFixed(1));
}

function peersPart(looks: readonly Look[]): Pick<Status, 'oldestPeers' | 'oldestPeersNote'> {
  const known: Peer[][] = [];
  for (const { peers } of looks) {
    if (peers.kind === 'unknown') return { oldestPeers: null, oldestPeersNote: peers.reason };
    known.push(peers.oldest);
  }
  return { oldestPeers: mergePeers(known), oldestPeersNote: null };
}

/** Whether it has no listeners yet, and often no admin interface either. */
export function isStarting(
  target: { readonly generation?: Generation | undefined } | undefined,
): boolean {
  return target?.generation?.ready === false;
}

/** What a drain of the host makes of every generation that has listeners. */
type HostState = 'draining' | 'drained' | undefined;

function hostStateOf(drain: DrainState): HostState {
  if (drain.kind === 'draining') return 'draining';
  if (drain.kind === 'idle' || drain.result.outcome === 'cancelled') return undefined;
  return drain.result.outcome === 'drained' ? 'drained' : 'draining';
}

function describeGeneration(
  { generation }: EnvoyTarget,
  known: {
    look: Look | undefined;
    hostState: HostState;
    paceOf: Paces;
    clock: Clock;
  },
): GenerationStatus[] {
  if (!generation) return [];
  const { look, hostState, paceOf, clock } = known;
  const count = look?.count;
  const { number, ready, version, envoy, runner, startedAt, failedReload } = generation;
  const handover = openHandoverLedger(generation, silentLog).read();
  const leftMs = handover ? Math.max(0, handover.deadlineMs - clock.nowMs()) : undefined;
  return [
    {
      number,
      state: !ready ? 'starting' : handover ? 'handing-over' : (hostState ?? ownState(look)),
      version: version ?? null,
      pid: envoy.pid,
      runnerPid: isAttended(generation) ? runner.pid : null,
      startedAt,
      connections: count?.open ?? null,
      deadline: leftMs === undefined ? null : new Date(Date.now() + leftMs).toISOString(),
      paceLeftMs: handover ? paceOf(generation, count?.open) : null,
      failedReload: failedReload ? { at: failedReload.at, reason: failedReload.reason } : null,
      udp: describeUdp(generation, count),
    },
  ];
}

/** Without a drain of the host: Envoy tells. */
function ownState(look: Look | undefined): GenerationStatus['state'] {
  if (look?.isClosed !== true) return 'serving';
  return look.count?.open === 0 ? 'drained' : 'draining';
}

function describeUdp(
  generation: Generation,
  count: ConnectionCount | undefined,
): GenerationUdp | null {
  const record = readSteering(generation);
  if (!record) return null;
  const { state, reason = null } = record;
  const { http3 = null, udp = null } = count?.byKind ?? {};
  return { state, reason, http3, sessions: udp };
}

function drainPart(state: DrainState, clock: Clock): Pick<Status, 'phase' | keyof typeof NO_DRAIN> {
  switch (state.kind) {
    case 'idle':
      return { phase: 'idle', ...NO_DRAIN };
    case 'draining': {
      const { phase, startedAt, deadlineMs, connectionsAtStart } = state;
      const timeLeftMs = Math.max(0, deadlineMs - clock.nowMs());
      const deadline = new Date(Date.now() + timeLeftMs).toISOString();
      const drain = { phase, startedAt, deadline, timeLeftMs, connectionsAtStart };
      return { ...NO_DRAIN, ...drain, ...coursePart(state), listenersCloseAt: closeAt(state) };
    }
    case 'ended':
      return { ...NO_DRAIN, ...state.result, ...coursePart(state) };
  }
}

/** What Envoy says of itself that no drain of pm2-envoy's accounts for. */
function withoutDrain(
  { kind }: DrainState,
  newest: Look | undefined,
): Pick<Status, 'orphanedDrain' | 'listenersClosed'> {
  const isClosed = newest?.isClosed === true;
  return {
    orphanedDrain: kind === 'idle' && newest?.state === 'DRAINING' && !isClosed,
    listenersClosed: kind === 'idle' && isClosed,
  };
}

/** `quiet-period` may end the delay earlier. */
function closeAt({
  phase,
  steps = [],
  checkDelayMs,
}: DrainProgress & Partial<DrainCourse>): string | null {
  const since = steps.find((step) => step.phase === 'delay')?.at;
  if (phase !== 'delay' || since === undefined || typeof checkDelayMs !== 'number') return null;
  const atMs = Date.parse(since) + checkDelayMs;
  return Number.isNaN(atMs) ? null : new Date(atMs).toISOString();
}

function coursePart({
  steps = [],
  checkDelayMs = null,
  startedBy = null,
}: Partial<DrainCourse>): Pick<Status, 'steps' | 'checkDelayMs' | 'startedBy'> {
  return { steps: [...steps], checkDelayMs, startedBy };
}

function pickCount({ open, byListener, byKind }: ConnectionCount): Status['connections'] {
  return { open, byListener, byKind };
}

function settingsOf(config: StatusConfig): StatusSettings {
  const { adminAddress, envoyConfig } = config;
  const { checkDelayMs, drainTimeoutMs, drainUntil, minOpenConnections } = config;
  return {
    version: packageVersion(),
    bootstrap: adminAddress ? null : envoyConfig,
    ...{ checkDelayMs, drainTimeoutMs, drainUntil, minOpenConnections },
  };
}

function holdingOf(count: ConnectionCount, { drainUntil }: StatusConfig): number {
  return drainUntil === 'requests' ? busyOf(count) : count.open;
}

/** The {@link Looker} of each Envoy: the same one as long as the Envoy is there, since it remembers. */
function createLookers(
  create: (target: EnvoyTarget) => Looker,
): (targets: readonly EnvoyTarget[]) => Looker[] {
  let lookers = new Map<AdminClient, Looker>();
  return (targets) => {
    lookers = new Map(targets.map((one) => [one.admin, lookers.get(one.admin) ?? create(one)]));
    return [...lookers.values()];
  };
}

/** What was open at the latest readings. */
interface OpenHistory {
  /** Milliseconds until the drain is done, as connections end now. */
  note(sum: ConnectionCount, phase: Status['phase']): number | null;
  /** Undefined: the latest count is not of now. */
  openNow(): number | undefined;
  points(): readonly PacePoint[];
}

function createHistory(config: StatusConfig, clock: Clock): OpenHistory {
  /** Of what the drain waits for, and of everything: with drain-until requests that is not the same. */
  const pace = createPace();
  const opened = createPace();
  return {
    note: (sum, phase) => {
      pace.note({ atMs: clock.nowMs(), open: holdingOf(sum, config) });
      opened.note({ atMs: clock.nowMs(), open: sum.open });
      const leftMs = phase === 'wait' ? pace.msUntil(config.minOpenConnections) : undefined;
      return leftMs === undefined ? null : Math.round(leftMs);
    },
    openNow: () => {
      const lately = opened.points().at(-1);
      return lately && clock.nowMs() - lately.atMs < FRESH_MS ? lately.open : undefined;
    },
    points: opened.points,
  };
}

/** Remembers since when the Envoy in service has not answered. */
function createSilence(): (located: Located, look: Look | undefined) => string | null {
  let since: { admin: AdminClient; at: string } | undefined;
  return ({ newest }, look) => {
    if (look?.error === undefined) {
      // One that was not asked says nothing either way.
      if (look?.state !== undefined) since = undefined;
      return null;
    }
    if (since?.admin !== newest.admin)
      since = { admin: newest.admin, at: new Date().toISOString() };
    return since.at;
  };
}

/** Milliseconds until a generation is empty, as its connections end now. */
type Paces = (generation: Generation, open: number | undefined) => number | null;

function createPaces(clock: Clock): Paces {
  let last: { number: number; pace: Pace } | undefined;
  return ({ number }, open) => {
    if (open === undefined) return null;
    if (last?.number !== number) last = { number, pace: createPace() };
    last.pace.note({ atMs: clock.nowMs(), open });
    const leftMs = last.pace.msUntil(0);
    return leftMs === undefined ? null : Math.round(leftMs);
  };
}

function describe(
  { newest, generation }: Located,
  look: Look | undefined,
  silentSince: string | null,
): EnvoyStatus {
  const { version, uptimeSeconds, concurrency } = look?.info ?? {};
  return {
    state: look?.state ?? null,
    version: version ?? null,
    uptimeSeconds: uptimeSeconds ?? null,
    concurrency: concurrency ?? null,
    listeners: look?.listeners ?? null,
    admin: newest.admin.address,
    pid: generation?.envoy.pid ?? null,
    generation: generation?.number ?? null,
    silentSince,
  };
}
