import type { AdminClient } from '../admin/client.js';
import { WANTED_KINDS, type Wanted } from '../admin/contents.js';
import { readSubscriptions, SUBSCRIPTION_FILTER } from '../admin/subscriptions.js';
import { listeningSockets } from '../host/sockets.js';
import type { Serving } from './proof.js';

/**
 * Asks an Envoy what it serves. Rejects as {@link AdminClient} does.
 *
 * @param how `pid` of its process, unless its sockets can't be seen; `isCompared`: with another Envoy, which takes
 *   its endpoints as well
 */
export async function readServing(
  admin: AdminClient,
  { pid, isCompared }: { pid?: number; isCompared: boolean },
): Promise<Serving> {
  const configs = await admin.listenerConfigs();
  const wanted = Object.fromEntries(
    WANTED_KINDS.map((kind) => [kind, configs.flatMap(({ wants }) => wants[kind])]),
  ) as unknown as Wanted;
  return {
    subscriptions: await askSubscriptions(admin),
    listeners: await admin.listeners(),
    configs,
    contents: await admin.contents(wanted, isCompared),
    bound: pid === undefined ? undefined : listeningSockets(pid),
  };
}

/** Asks an Envoy what it has received from elsewhere: one question, where the rest would take too long. */
export async function askSubscriptions(admin: AdminClient): Promise<Serving['subscriptions']> {
  const query = { type: 'Counters', filter: SUBSCRIPTION_FILTER, alsoUnused: true } as const;
  return readSubscriptions((await admin.stats(query)).stats);
}
