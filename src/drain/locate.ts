import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { type AdminCall, type AdminClient, createAdminClient } from '../admin/client.js';
import { isSameStart, startOf } from '../admin/server-info.js';
import { type Clock, systemClock } from '../clock.js';
import type { Config } from '../config/config.js';
import { countDescriptors } from '../host/descriptors.js';
import { type Generation, newestOf, openGenerations } from '../host/generations.js';
import { type ProcessIdentity, sameProcess } from '../host/process-identity.js';
import type { Log } from '../log.js';
import type { EnvoyTarget } from './envoys.js';
import { type DrainLedger, openLedger } from './record.js';

/** The Envoys of this host at one moment. */
export interface Located {
  /** Oldest first; never empty. */
  targets: readonly EnvoyTarget[];
  /** The newest that has been LIVE, or the newest of all. */
  newest: EnvoyTarget;
  /** The newest generation; undefined for an Envoy that pm2-envoy did not start. */
  generation: Generation | undefined;
  /**
   * The process of the latest generation, LIVE or not yet: its folder has the record, so that a drain
   * begun in the middle of a reload is known to the one that stays.
   */
  latest: ProcessIdentity | undefined;
  /** Where this Envoy's drain is recorded. */
  ledger: DrainLedger;
  /** When a foreign Envoy started, on the monotonic clock, if it could be asked. */
  envoyStartedAtMs: number | undefined;
}

/** Finds the Envoys of this host: those in the run directory, or the one at `admin-address`. */
export interface EnvoyLocator {
  /** Undefined when there is no Envoy. One at `admin-address` always counts as there. */
  locate(): Promise<Located | undefined>;
}

/** An Envoy that does not say at once when it started is drained without that. */
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
  clock?: Clock;
}): EnvoyLocator {
  const { config, runDir, log, onAdminCall, keepStartMs = 0, clock = systemClock } = options;
  const { adminAddress } = config;
  if (adminAddress) {
    const admin = createAdminClient(adminAddress, undefined, onAdminCall);
    const readStart = createStartReader(admin, { keepStartMs, clock });
    return { locate: async () => foreignAt(admin, await readStart(), { runDir, log }) };
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
  return {
    locate: async () => {
      const live = generations.live();
      forget(live);
      const targets = live.map((generation) => targetOf(generation, clientOf(generation)));
      const generation = newestOf(live);
      const newest = generation && targets[live.indexOf(generation)];
      const latest = live.at(-1);
      if (!newest || !latest) return undefined;
      return {
        targets,
        newest,
        generation,
        latest: latest.envoy,
        ledger: openGenerationLedger(latest, 'shutdown', log),
        envoyStartedAtMs: undefined,
      };
    },
  };
}

/** Whether both are of one Envoy. A foreign one is the same only if both starts are known: an old result must not pass for a new Envoy. */
export function isSameEnvoy(a: Located, b: Located): boolean {
  if (a === b) return true;
  if (a.latest || b.latest) return sameProcess(a.latest, b.latest);
  if (a.envoyStartedAtMs === undefined || b.envoyStartedAtMs === undefined) return false;
  return isSameStart(a.envoyStartedAtMs, b.envoyStartedAtMs);
}

/** A generation as a drain sees it. */
export function targetOf(generation: Generation, admin: AdminClient): EnvoyTarget {
  const { number, envoy } = generation;
  const openFiles = (): number | undefined => countDescriptors(envoy.pid);
  return { name: `generation ${number}`, admin, process: envoy, generation, openFiles };
}

/** The drain record of a generation: it lies in its folder, so it can't be mistaken for another's. */
export function openGenerationLedger(
  generation: Generation,
  command: 'shutdown' | 'handover',
  log: Log,
): DrainLedger {
  return openLedger({ file: join(generation.directory, `${command}.json`), log });
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
  { runDir, log }: { runDir: string; log: Log },
): Located {
  const id = createHash('sha256').update(admin.address).digest('hex').slice(0, 12);
  const name = `Envoy at ${admin.address}`;
  const target = { name, admin, process: undefined, startedAtMs: envoyStartedAtMs };
  return {
    targets: [target],
    newest: target,
    generation: undefined,
    latest: undefined,
    ledger: openLedger({
      file: join(runDir, `shutdown-${id}.json`),
      log,
      foreign: { envoyStartedAtMs },
    }),
    envoyStartedAtMs,
  };
}
