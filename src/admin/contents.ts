import { listOf, objectOf } from '../json.js';

/** What listeners refer to, by name: it comes from elsewhere. */
export interface Wanted {
  /** RDS */
  routes: readonly string[];
  /** SDS */
  secrets: readonly string[];
  /** Extension configs (ECDS) */
  filters: readonly string[];
}

/** What an Envoy has received of that, as `/config_dump` shows it: no stats_matcher hides it. */
export interface Contents extends Wanted {
  /** Clusters by EDS, and whether each has an endpoint. */
  endpoints: ReadonlyMap<string, boolean>;
}

/** The kinds of {@link Wanted}. */
export const WANTED_KINDS = ['routes', 'secrets', 'filters'] as const;

/** Finds what a listener refers to, anywhere in it. */
export function wantedBy(listener: unknown): Wanted {
  const found = {
    routes: new Set<string>(),
    secrets: new Set<string>(),
    filters: new Set<string>(),
  };
  const add = (names: Set<string>, name: unknown): void => {
    if (typeof name === 'string' && name !== '') names.add(name);
  };
  const walk = (value: unknown): void => {
    if (Array.isArray(value)) for (const one of value) walk(one);
    const record = objectOf(value);
    for (const [key, inner] of Array.isArray(value) ? [] : Object.entries(record)) {
      if (key === 'rds') add(found.routes, objectOf(inner)['route_config_name']);
      if (key === 'config_discovery') add(found.filters, record['name']);
      if (/sds_secret_configs?$/.test(key)) {
        for (const one of [inner].flat()) {
          // Without a source it is a secret of the bootstrap.
          const { name, sds_config } = objectOf(one);
          if (sds_config !== undefined) add(found.secrets, name);
        }
      }
      walk(inner);
    }
  };
  walk(listener);
  return { routes: [...found.routes], secrets: [...found.secrets], filters: [...found.filters] };
}

/** Names in the answer to `/config_dump?resource=…`: each entry's own, or that of what it holds under `key`. */
export function parseNames(json: unknown, key?: string): string[] {
  return entriesOf(json).flatMap((entry) => {
    const { name } = key === undefined ? entry : objectOf(entry[key]);
    return typeof name === 'string' ? [name] : [];
  });
}

/** The clusters of a dump that get their endpoints by EDS. */
export function parseEdsClusters(json: unknown): string[] {
  return entriesOf(json).flatMap((entry) => {
    const { name, type } = objectOf(entry['cluster']);
    return type === 'EDS' && typeof name === 'string' ? [name] : [];
  });
}

/** Names of the clusters in a dump of endpoints, and whether each has one. */
export function parseEndpoints(json: unknown): [string, boolean][] {
  return entriesOf(json).flatMap((entry) => {
    const { cluster_name, endpoints } = objectOf(entry['endpoint_config']);
    if (typeof cluster_name !== 'string') return [];
    const localities = Array.isArray(endpoints) ? endpoints : [];
    const hasOne = localities.some((one) => [objectOf(one)['lb_endpoints']].flat().some(Boolean));
    return [[cluster_name, hasOne] as [string, boolean]];
  });
}

function entriesOf(json: unknown): Readonly<Record<string, unknown>>[] {
  return listOf(objectOf(json)['configs'], 'configs').map(objectOf);
}
