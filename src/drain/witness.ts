import { type AdminClient, createAdminClient } from '../admin/client.js';
import { type Clock, systemClock } from '../clock.js';
import type { Generation } from '../host/generations.js';
import { listeningSockets } from '../host/sockets.js';
import { createCadence } from './cadence.js';
import type { EnvoyTarget } from './envoys.js';
import { targetOf } from './locate.js';

/** What Envoy itself shows of its listeners: no record may say otherwise. */
export interface Witness {
  /**
   * Whether it has closed its listeners. Yes is for good; no is asked again as often as 2 % of Envoy's main
   * thread allow. No, too, where it can't be told. Never rejects.
   */
  isClosed(target: EnvoyTarget): Promise<boolean>;
}

/** Longest time that an answer counts which was no. */
const WITNESS_MS = 5_000;

/** Creates the witness of a process, which all of its parts share. */
export function createWitness(clock: Clock = systemClock): Witness {
  const ledgers = new WeakMap<AdminClient, ReturnType<typeof createLedger>>();
  return {
    isClosed: async (target) => {
      const ledger = ledgers.get(target.admin) ?? createLedger();
      ledgers.set(target.admin, ledger);
      if (clock.nowMs() < ledger.untilMs) return ledger.isClosed;
      const startedMs = performance.now();
      ledger.isClosed = await hasClosed(target).catch(() => false);
      ledger.cadence.noteCost(performance.now() - startedMs);
      // One that its owner restarts keeps its address.
      const isForGood = ledger.isClosed && target.process !== undefined;
      ledger.untilMs = isForGood
        ? Number.POSITIVE_INFINITY
        : clock.nowMs() + ledger.cadence.nextDelayMs(0);
      return ledger.isClosed;
    },
  };
}

function createLedger() {
  const cadence = createCadence({ checkIntervalMs: WITNESS_MS, checkIntervalMinMs: 0 });
  return { cadence, isClosed: false, untilMs: Number.NEGATIVE_INFINITY };
}

/**
 * Whether a LIVE Envoy has closed its listeners, by its counter or, where a stats_matcher hides that, by its
 * sockets. False where neither can be seen. Rejects as {@link AdminClient} does.
 */
export async function hasClosed(target: EnvoyTarget, signal?: AbortSignal): Promise<boolean> {
  const isClosed = await target.admin.hasClosedListeners(signal);
  if (isClosed !== undefined || !target.process) return isClosed === true;
  const bound = listeningSockets(target.process.pid);
  if (!bound) return false;
  const listeners = await target.admin.listeners(signal);
  const addresses = listeners
    .flatMap((listener) => listener.addresses)
    .filter(({ kind }) => kind === 'ip')
    .map(({ text }) => text);
  return areClosed(addresses, bound);
}

/**
 * Whether a generation has closed its listeners, no matter which process told it to; one that does not answer counts
 * as serving. Never rejects.
 *
 * @param limits of each call to Envoy, and of all of it
 */
export async function hasGenerationClosed(
  generation: Generation,
  limits: { callMs?: number; signal?: AbortSignal },
): Promise<boolean> {
  const admin = createAdminClient({ kind: 'unix', path: generation.adminSocket }, limits.callMs);
  const isClosed = await hasClosed(targetOf(generation, admin), limits.signal).catch(() => false);
  admin.close();
  return isClosed;
}

/**
 * Whether sockets are missing as `drain_listeners` takes them away: all of TCP. Those of UDP stay, so an
 * address that has only one of UDP shows it when TCP was there too: two listeners share it then.
 */
export function areClosed(addresses: readonly string[], bound: ReadonlySet<string>): boolean {
  if (addresses.some((address) => bound.has(`tcp ${address}`))) return false;
  return addresses.some(
    (address, index) => !bound.has(`udp ${address}`) || addresses.indexOf(address) !== index,
  );
}
