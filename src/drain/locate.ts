import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { type AdminCall, type AdminClient, createAdminClient } from '../admin/client.js';
import { isSameStart, startOf } from '../admin/server-info.js';
import { type Clock, systemClock } from '../clock.js';
import type { Config } from '../config/config.js';
import { countDescriptors } from '../host/descriptors.js';
import {
  type Generation,
  type GenerationSlot,
  type Generations,
  newestOf,
  openGenerations,
} from '../host/generations.js';
import { isAlive, type ProcessIdentity, sameProcess } from '../host/process-identity.js';
import { type Log, silentLog } from '../log.js';
import type { EnvoyTarget } from './envoys.js';
import { appliesTo, type HostNow, isAbout, isHeldBy } from './host-now.js';
import { type DrainLedger, type DrainRecord, openLedger } from './record.js';
import { readLegacyRecord } from './record-format.js';
import { keepsHostOut } from './state.js';

/** The Envoys of this host at one moment. */
export interface Located {
  /** Oldest first; never empty. */
  targets: readonly EnvoyTarget[];
  /** The newest that has been LIVE, or the newest of all. */
  newest: EnvoyTarget;
  /** The newest generation; undefined for an Envoy that pm2-envoy did not start. */
  generation: Generation | undefined;
  /** Where the host's drains are recorded. */
  ledger: DrainLedger;
  /** Whether a drain is about the Envoy in service. */
  applies(record: DrainRecord): boolean;
  /**
   * Whether nothing is left to drain beside what the drain is about: every Envoy is one of its own, or will be
   * as it is under way.
   */
  covers(record: DrainRecord): boolean;
  /** Looks again; undefined for an Envoy that pm2-envoy did not start. */
  now: ((record: DrainRecord) => HostNow) | undefined;
  /** When a foreign Envoy started, on the monotonic clock, if it could be asked. */
  envoyStartedAtMs: number | undefined;
}

/** Finds the Envoys of this host: those in the run directory, or the one at `admin-address`. */
export interface EnvoyLocator {
  /** Undefined when there is no Envoy. One at `admin-address` always counts as there. */
  locate(): Promise<Located | undefined>;
  /** The host without any Envoy: its drains, for who wants it to stay out of service. */
  whenNone?(): NoEnvoy;
}

/** A host without an Envoy. */
export type NoEnvoy = Pick<Located, 'ledger' | 'covers' | 'now'>;

/** An Envoy that does not say immediately when it started is drained without that. */
const LOCATE_LIMIT_MS = 1_000;

/** Creates the locator; it keeps one admin connection for each Envoy. */
export function createEnvoyLocator(options: {
  config: Pick<Config, 'adminAddress'>;
  runDir: string;
  log: Log;
  /** Told of each call to an Envoy at its end. */
  onAdminCall?: (call: AdminCall) => void;
  /** For so long the start of a foreign Envoy counts as known: who only watches must not cost it much. */
  keepStartMs?: number;
  /** A process that hangs: no drain is left to it ({@link openLedger}). */
  hung?: ProcessIdentity | undefined;
  clock?: Clock;
}): EnvoyLocator {
  const { config, runDir, log, onAdminCall, keepStartMs = 0, hung, clock = systemClock } = options;
  const { adminAddress } = config;
  if (adminAddress) {
    const admin = createAdminClient(adminAddress, undefined, onAdminCall);
    const readStart = createStartReader(admin, { keepStartMs, clock });
    return { locate: async () => foreignAt(admin, await readStart(), { runDir, log, hung }) };
  }

  const generations = openGenerations(runDir);
  const clients = new Map<string, AdminClient>();
  const clientOf = ({ adminSocket }: Generation): AdminClient => {
    const known = clients.get(adminSocket);
    if (known) return known;
    const client = createAdminClient({ kind: 'unix', path: adminSocket }, undefined, onAdminCall);
    clients.set(adminSocket, client);
    return client;
  };
  const forget = (live: readonly Generation[]): void => {
    const sockets = new Set(live.map(({ adminSocket }) => adminSocket));
    for (const [socket, client] of clients) {
      if (sockets.has(socket)) continue;
      client.close();
      clients.delete(socket);
    }
  };
  const targetAt = (generation: Generation): EnvoyTarget =>
    targetOf(generation, clientOf(generation));
  const host = createGenerationLocator({ generations, targetAt, runDir, log, hung });
  return {
    ...host,
    locate: async () => {
      forget(generations.live());
      return host.locate();
    },
  };
}

/** The locator of the Envoys that pm2-envoy has started. */
export function createGenerationLocator(options: {
  generations: Pick<Generations, 'live' | 'isAnyReserved' | 'lastAfterDrain'>;
  targetAt: (generation: Generation) => EnvoyTarget;
  runDir: string;
  log: Log;
  hung?: ProcessIdentity | undefined;
  self?: ProcessIdentity;
}): Required<EnvoyLocator> {
  const { generations, targetAt, ...place } = options;
  const now = (record: DrainRecord): HostNow => {
    // In this order: one that is recorded in between is then seen as live.
    const isReserved = generations.isAnyReserved();
    const live = generations.live();
    const own = live.filter((generation) => appliesTo(record, generation));
    const serving = newestOf(live);
    return {
      targets: own.map(targetAt),
      isStarting: isReserved || own.some(({ ready, runner }) => !ready && isAlive(runner)),
      isBack: serving?.ready === true && !appliesTo(record, serving),
    };
  };
  return {
    locate: async () => {
      const live = generations.live();
      const targets = live.map(targetAt);
      const generation = newestOf(live);
      const newest = generation && targets[live.indexOf(generation)];
      if (!newest || !generation) return undefined;
      const applies = (record: DrainRecord): boolean => appliesTo(record, generation);
      const covers = (record: DrainRecord): boolean =>
        record.result || record.number === 0
          ? applies(record) && live.every((one) => isAbout(record, one))
          : applies(record);
      const ledger = openHostLedger({ ...place, live, covers });
      return {
        targets,
        newest,
        generation,
        applies,
        covers,
        now,
        ledger,
        envoyStartedAtMs: undefined,
      };
    },
    whenNone: () => {
      // A generation that has ended may have brought the host back before.
      const over = generations.lastAfterDrain();
      const covers = ({ number, result, startedBy }: DrainRecord): boolean =>
        number > over && (!result || (startedBy !== null && keepsHostOut(startedBy)));
      return { ledger: openHostLedger({ ...place, live: [], covers }), covers, now };
    },
  };
}

/**
 * Whether the same Envoy is in service in both. A foreign one is the same only if both starts are known: an
 * old result must not pass for a new Envoy.
 */
export function isSameEnvoy(a: Located, b: Located): boolean {
  if (a === b) return true;
  const [one, other] = [a.generation?.envoy, b.generation?.envoy];
  if (one || other) return sameProcess(one, other);
  if (a.envoyStartedAtMs === undefined || b.envoyStartedAtMs === undefined) return false;
  return isSameStart(a.envoyStartedAtMs, b.envoyStartedAtMs);
}

/**
 * What `look` finds of the host. Looks again where something is amiss and another generation serves by then: one
 * that has handed over meanwhile has no listeners, or has ended.
 */
export async function lookAtHost<Found>(
  { locate }: Pick<EnvoyLocator, 'locate'>,
  look: (located: Located | undefined) => Promise<Found>,
  isAmiss: (found: Found) => boolean,
): Promise<Found> {
  let located = await locate();
  for (let again = LOOKS_AGAIN; ; again -= 1) {
    const found = await look(located);
    // A foreign one is the only one, and locating it asks it.
    const isForeign = located !== undefined && located.generation === undefined;
    if (again === 0 || isForeign || !isAmiss(found)) return found;
    const now = await locate();
    if (now?.generation?.number === located?.generation?.number) return found;
    located = now;
  }
}

const LOOKS_AGAIN = 2;

/** A generation as a drain sees it. */
export function targetOf(generation: Generation, admin: AdminClient): EnvoyTarget {
  const { number, envoy } = generation;
  const openFiles = (): number | undefined => countDescriptors(envoy.pid);
  return { name: `generation ${number}`, admin, process: envoy, generation, openFiles };
}

/** Where the drains of this host are recorded, of the Envoys that pm2-envoy has started. */
export function hostRecords(runDir: string): string {
  return join(runDir, 'drains', 'host');
}

/** Where the hand-over from a generation is recorded. */
export function handoverRecords({ directory }: Pick<GenerationSlot, 'directory'>): string {
  return join(directory, 'handover');
}

/** The records of the hand-over from a generation: they lie in its folder. */
export function openHandoverLedger(generation: GenerationSlot, log: Log): DrainLedger {
  const base = handoverRecords(generation);
  return openLedger({ base, log, legacy: () => readLegacyRecord(`${base}.json`) });
}

/** Opens the records of the host's drains; `live` are its generations. */
export function openHostLedger(options: {
  runDir: string;
  live: readonly Generation[];
  log: Log;
  covers?: (record: DrainRecord) => boolean;
  hung?: ProcessIdentity | undefined;
  self?: ProcessIdentity;
}): DrainLedger {
  const { runDir, live, ...rest } = options;
  return openLedger({
    ...rest,
    base: hostRecords(runDir),
    after: Math.max(0, ...live.map(({ afterDrain = 0 }) => afterDrain)),
    legacy: () => legacyOf(live.at(-1)),
  });
}

/** The drain that keeps the host of this run directory out of service, whether it has ended or is under way. */
export function drainThatHolds(runDir: string): DrainRecord | undefined {
  const record = openHostLedger({ runDir, live: [], log: silentLog }).read();
  const isOver = record && record.number <= openGenerations(runDir).lastAfterDrain();
  return !isOver && isHeldBy(record, 0) ? record : undefined;
}

/** An earlier version kept the drain of the host in the folder of the latest generation. */
function legacyOf(latest: Generation | undefined): DrainRecord | undefined {
  if (!latest) return undefined;
  let found: DrainRecord | undefined;
  for (let number = 0; ; number += 1) {
    const file = `shutdown${number === 0 ? '' : `-${number}`}.json`;
    const record = readLegacyRecord(join(latest.directory, file));
    if (!record) break;
    found = { ...record, envoys: [latest.envoy] };
  }
  return found;
}

/** When a foreign Envoy started; undefined: it does not say. What failed is asked again. */
function createStartReader(
  admin: AdminClient,
  { keepStartMs, clock }: { keepStartMs: number; clock: Clock },
): () => Promise<number | undefined> {
  let known: { startedAtMs: number; untilMs: number } | undefined;
  return async () => {
    if (known && clock.nowMs() < known.untilMs) return known.startedAtMs;
    known = undefined;
    const limit = AbortSignal.timeout(LOCATE_LIMIT_MS);
    const info = await admin.serverInfo(limit).catch(() => undefined);
    if (!info) return undefined;
    const nowMs = clock.nowMs();
    known = { startedAtMs: startOf(info, nowMs), untilMs: nowMs + keepStartMs };
    return known.startedAtMs;
  };
}

function foreignAt(
  admin: AdminClient,
  envoyStartedAtMs: number | undefined,
  { runDir, log, hung }: { runDir: string; log: Log; hung: ProcessIdentity | undefined },
): Located {
  const id = createHash('sha256').update(admin.address).digest('hex').slice(0, 12);
  const name = `Envoy at ${admin.address}`;
  const target = { name, admin, process: undefined, startedAtMs: envoyStartedAtMs };
  return {
    targets: [target],
    newest: target,
    generation: undefined,
    // The ledger has compared it with this Envoy.
    applies: () => true,
    covers: () => true,
    now: undefined,
    ledger: openLedger({
      base: join(runDir, 'drains', id),
      log,
      hung,
      foreign: { envoyStartedAtMs },
    }),
    envoyStartedAtMs,
  };
}
