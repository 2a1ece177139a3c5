import type { AdminClient } from '../admin/client.js';
import { WANTED_KINDS, type Wanted } from '../admin/contents.js';
import { readSubscriptions, SUBSCRIPTION_FILTER } from '../admin/subscriptions.js';
import { listeningSockets } from '../host/sockets.js';
import type { Serving } from './proof.js';

/**
 * Asks an Envoy what it serves. Rejects as {@link AdminClient} does.
 *
 * @param pid of its process; undefined: its sockets can't be seen
 */
export async function readServing(admin: AdminClient, pid?: number): Promise<Serving> {
  const configs = await admin.listenerConfigs();
  const wanted = Object.fromEntries(
    WANTED_KINDS.map((kind) => [kind, configs.flatMap(({ wants }) => wants[kind])]),
  ) as unknown as Wanted;
  return {
    subscriptions: await askSubscriptions(admin),
    listeners: await admin.listeners(),
    configs,
    contents: await admin.contents(wanted),
    bound: pid === undefined ? undefined : listeningSockets(pid),
  };
}

/** Asks an Envoy what it has received from elsewhere: one question, where the rest would take too long. */
export async function askSubscriptions(admin: AdminClient): Promise<Serving['subscriptions']> {
  const query = { type: 'Counters', filter: SUBSCRIPTION_FILTER, alsoUnused: true } as const;
  return readSubscriptions((await admin.stats(query)).stats);
}
