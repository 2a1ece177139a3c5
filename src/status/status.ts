import type { AdminClient } from '../admin/client.js';
import { busyOf, type ConnectionCount, sumConnections } from '../admin/stats.js';
import { type Clock, systemClock } from '../clock.js';
import type { Config } from '../config/config.js';
import type { EnvoyTarget } from '../drain/envoys.js';
import type { HostDrain } from '../drain/host-drain.js';
import { type EnvoyLocator, type Located, openGenerationLedger } from '../drain/locate.js';
import type { DrainOutcome, DrainPhase, DrainState } from '../drain/state.js';
import { isAttended } from '../host/generations.js';
import { silentLog } from '../log.js';
import { shareInFlight } from '../share.js';
import { createLooker, type Look, type Looker } from './look.js';
import { createPace, type PacePoint } from './pace.js';
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
  /** How long the drain took, and what was open at its end; null before that. */
  durationMs: number | null;
  connectionsLeft: number | null;
  /** Envoy is DRAINING although no drain of pm2-envoy's runs. */
  orphanedDrain: boolean;
  /** Null: they can't be counted right now. */
  connections: Pick<ConnectionCount, 'open' | 'byListener' | 'byKind'> | null;
  activeRequests: number | null;
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
  lastPoll: { at: string; tookMs: number } | null;
  lastError: string | null;
}

/** The Envoy in service. */
export interface EnvoyStatus {
  /** Null: it does not answer. */
  state: string | null;
  version: string | null;
  uptimeSeconds: number | null;
  concurrency: number | null;
  admin: string;
  /** Null for an Envoy that pm2-envoy did not start. */
  pid: number | null;
  generation: number | null;
}

/** One generation. */
export interface GenerationStatus {
  number: number;
  /** `handing-over`: a newer one serves, and this one's connections are waited for. */
  state: 'starting' | 'serving' | 'handing-over';
  /** Null until it has been LIVE. */
  version: string | null;
  pid: number;
  /** Null: nobody supervises it, and the next runner takes over from it. */
  runnerPid: number | null;
  /** ISO 8601 */
  startedAt: string;
  /** Null: they can't be counted right now. */
  connections: number | null;
  /** When a hand-over cuts what is left, as ISO 8601; null without one. */
  deadline: string | null;
  /** Why the latest attempt to replace it failed. */
  failedReload: { at: string; reason: string } | null;
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
> = {
  outcome: null,
  startedAt: null,
  deadline: null,
  timeLeftMs: null,
  connectionsAtStart: null,
  durationMs: null,
  connectionsLeft: null,
};

/** Reads the status of this host, again and again. */
export interface StatusReader {
  /**
   * What Envoy says, beside the drain. Never rejects. Where Envoy is asked often, or its answers are dear,
   * the counts are as old as `lastPoll` says ({@link Looker}).
   */
  read(): Promise<Status>;
  /** What is known without asking Envoy: the drain and the generations. Never rejects. */
  peek(): Promise<Status>;
  /** Open connections as they were read lately, oldest first. */
  history(): readonly PacePoint[];
}

/** Creates the reader; it remembers what rates and paces are made of. */
export function createStatusReader(options: {
  config: Pick<Config, 'ignoreListeners' | 'drainUntil' | 'minOpenConnections'>;
  locator: EnvoyLocator;
  hostDrain: HostDrain;
  /** Told which Envoys and which drain each reading has found. */
  onLook?: (located: Located | undefined, drain: DrainState) => void;
  clock?: Clock;
}): StatusReader {
  const { config, locator, hostDrain, onLook, clock = systemClock } = options;
  /** Of what the drain waits for, and of everything: with drain-until requests that is not the same. */
  const pace = createPace();
  const opened = createPace();
  let lookers = new Map<AdminClient, Looker>();

  const lookersOf = (targets: readonly EnvoyTarget[]): Looker[] => {
    const { ignoreListeners } = config;
    const make = (target: EnvoyTarget): Looker => createLooker(target, { ignoreListeners, clock });
    lookers = new Map(targets.map((one) => [one.admin, lookers.get(one.admin) ?? make(one)]));
    return [...lookers.values()];
  };
  /** Milliseconds until the drain is done, as connections end now. */
  const paceLeftMs = (sum: ConnectionCount | undefined, phase: Status['phase']): number | null => {
    if (!sum) return null;
    const toEnd = config.drainUntil === 'requests' ? busyOf(sum) : sum.open;
    pace.note({ atMs: clock.nowMs(), open: toEnd });
    opened.note({ atMs: clock.nowMs(), open: sum.open });
    const leftMs = phase === 'wait' ? pace.msUntil(config.minOpenConnections) : undefined;
    return leftMs === undefined ? null : Math.round(leftMs);
  };

  /** Which Envoys there are. Told right away: another look may be told of later ones meanwhile. */
  const locate = async (): Promise<Located | undefined> => {
    const located = await locator.locate();
    onLook?.(located, hostDrain.state(located));
    return located;
  };
  const describeAll = (located: Located | undefined, looks: readonly Look[]): Status => {
    const targets = located?.targets ?? [];
    const serving = looks.filter((_, index) => !isStarting(targets[index]));
    const newest = located && looks[targets.indexOf(located.newest)];
    const counts = serving.map(({ count }) => count).filter((count) => count !== undefined);
    const sum = located && counts.length === serving.length ? sumConnections(counts) : undefined;
    const drain = drainPart(hostDrain.state(located), clock);
    return {
      ...drain,
      orphanedDrain: drain.phase === 'idle' && newest?.state === 'DRAINING',
      connections: sum ? pickCount(sum) : null,
      activeRequests: sum?.activeRequests ?? null,
      newConnectionsPerSecond: sumRates(serving),
      paceLeftMs: paceLeftMs(sum, drain.phase),
      ...peersPart(serving),
      envoy: located ? describe(located, newest) : null,
      generations: targets.flatMap((target, index) =>
        describeGeneration(target, looks[index]?.count, clock),
      ),
      lastPoll: serving.at(-1)?.poll ?? null,
      lastError: hostDrain.current()?.lastError() ?? newest?.error ?? null,
    };
  };

  const read = async (): Promise<Status> => {
    const located = await locate();
    const targets = located?.targets ?? [];
    const looks = lookersOf(targets).map(({ look }, index) =>
      isStarting(targets[index]) ? NOT_ASKED : look(),
    );
    return describeAll(located, await Promise.all(looks));
  };
  const peek = async (): Promise<Status> => {
    const located = await locate();
    return describeAll(
      located,
      (located?.targets ?? []).map(() => NOT_ASKED),
    );
  };
  return { read: shareInFlight(read), peek, history: opened.points };
}

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
export function isStarting(target: EnvoyTarget | undefined): boolean {
  return target?.generation?.ready === false;
}

function describeGeneration(
  { generation }: EnvoyTarget,
  count: ConnectionCount | undefined,
  clock: Clock,
): GenerationStatus[] {
  if (!generation) return [];
  const { number, ready, version, envoy, runner, startedAt, failedReload } = generation;
  const handover = openGenerationLedger(generation, 'handover', silentLog).read();
  const leftMs = handover ? Math.max(0, handover.deadlineMs - clock.nowMs()) : undefined;
  return [
    {
      number,
      state: !ready ? 'starting' : handover ? 'handing-over' : 'serving',
      version: version ?? null,
      pid: envoy.pid,
      runnerPid: isAttended(generation) ? runner.pid : null,
      startedAt,
      connections: count?.open ?? null,
      deadline: leftMs === undefined ? null : new Date(Date.now() + leftMs).toISOString(),
      failedReload: failedReload ?? null,
    },
  ];
}

function drainPart(state: DrainState, clock: Clock): Pick<Status, 'phase' | keyof typeof NO_DRAIN> {
  switch (state.kind) {
    case 'idle':
      return { phase: 'idle', ...NO_DRAIN };
    case 'draining': {
      const { phase, startedAt, deadlineMs, connectionsAtStart } = state;
      const timeLeftMs = Math.max(0, deadlineMs - clock.nowMs());
      const deadline = new Date(Date.now() + timeLeftMs).toISOString();
      return { ...NO_DRAIN, phase, startedAt, deadline, timeLeftMs, connectionsAtStart };
    }
    case 'ended':
      return { ...NO_DRAIN, ...state.result };
  }
}

function pickCount({ open, byListener, byKind }: ConnectionCount): Status['connections'] {
  return { open, byListener, byKind };
}

function describe({ newest, generation }: Located, look: Look | undefined): EnvoyStatus {
  const { version, uptimeSeconds, concurrency } = look?.info ?? {};
  return {
    state: look?.state ?? null,
    version: version ?? null,
    uptimeSeconds: uptimeSeconds ?? null,
    concurrency: concurrency ?? null,
    admin: newest.admin.address,
    pid: generation?.envoy.pid ?? null,
    generation: generation?.number ?? null,
  };
}
