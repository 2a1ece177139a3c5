import type { Stat } from './stats.js';

/** What an Envoy has received from one source of its configuration, as its counters tell. */
export interface Subscription {
  /** `listeners (LDS)`, `routes ingress (RDS)`, `secret web (SDS)`; the stat name of any other. */
  what: string;
  /** A cluster's endpoints by DNS or EDS: it costs one cluster, not the whole. */
  isCluster: boolean;
  received: number;
  /** `initial_fetch_timeout` passed with nothing received. */
  timedOut: number;
  /** Not reached, or not to be read. */
  failed: number;
  /** Read, and refused. */
  rejected: number;
}

/** RE2 filter of the counters that {@link readSubscriptions} reads. */
export const SUBSCRIPTION_FILTER =
  '\\.(init_fetch_timeout|update_success|update_failure|update_rejected)$';

/** Groups the counters of one reply by their source, by stat name. */
export function readSubscriptions(stats: readonly Stat[]): Map<string, Subscription> {
  const found = new Map<string, Subscription>();
  for (const { name, value } of stats) {
    const [, source = '', counter = ''] = COUNTER.exec(name) ?? [];
    const field = FIELDS[counter];
    if (!field) continue;
    const one = found.get(source) ?? newSubscription(source);
    one[field] += value;
    found.set(source, one);
  }
  return found;
}

const COUNTER = /^(.+)\.(init_fetch_timeout|update_success|update_failure|update_rejected)$/;
const FIELDS: Readonly<Record<string, 'received' | 'timedOut' | 'failed' | 'rejected'>> = {
  init_fetch_timeout: 'timedOut',
  update_success: 'received',
  update_failure: 'failed',
  update_rejected: 'rejected',
};

function newSubscription(source: string): Subscription {
  const what = NAMES.find(([pattern]) => pattern.test(source));
  return {
    what: what ? source.replace(...what) : source,
    isCluster: source.startsWith('cluster.'),
    received: 0,
    timedOut: 0,
    failed: 0,
    rejected: 0,
  };
}

const NAMES: readonly (readonly [RegExp, string])[] = [
  [/^listener_manager\.lds$/, 'listeners (LDS)'],
  [/^cluster_manager\.cds$/, 'clusters (CDS)'],
  [/^http\..+\.rds\.(.+)$/, 'routes $1 (RDS)'],
  [/^http\..+\.scoped_rds\.(.+)$/, 'scoped routes $1 (SRDS)'],
  [/^.*\bsds\.(.+)$/, 'secret $1 (SDS)'],
  [/^cluster\.(.+)$/, 'endpoints of cluster $1'],
];
