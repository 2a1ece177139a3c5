import type { FormatName } from './formats.js';

/** One configuration key. */
export interface KeySpec {
  format: FormatName;
  /** As it would stand in a JSON file; null: not set. */
  default: unknown;
  /** One or two sentences for `--help` and docs/configuration.md. */
  doc: string;
  /** Never shown. */
  secret?: true;
  /** What stands for the default in the docs where it is found at run time. */
  defaultText?: string;
}

/** Name of a configuration key, as in a JSON file. */
export type Key =
  | 'check-interval'
  | 'check-interval-min'
  | 'check-delay'
  | 'quiet-period'
  | 'min-open-connections'
  | 'serve-port'
  | 'serve-address'
  | 'drain-timeout'
  | 'grace-period'
  | 'drain-until'
  | 'drain-listeners'
  | 'ignore-listeners'
  | 'shutdown-token'
  | 'shutdown-token-file'
  | 'envoy-bin'
  | 'envoy-config'
  | 'envoy-args'
  | 'envoy-drain-time'
  | 'envoy-lost-after'
  | 'envoy-stuck-after'
  | 'orphaned-drain'
  | 'admin-address'
  | 'run-dir'
  | 'plugins'
  | 'log-level'
  | 'log-format';

/** Every key of the configuration, in the order in which people read it (contract 5). */
export const SCHEMA: Readonly<Record<Key, KeySpec>> = {
  'check-interval': {
    format: 'positive duration',
    default: '5s',
    doc: 'Longest time between two polls of the open connections.',
  },
  'check-interval-min': {
    format: 'positive duration',
    default: '100ms',
    doc: 'Shortest time between two polls; near the end of a drain polling comes down to it, as long as it costs at most 2 % of Envoy’s main thread.',
  },
  'check-delay': {
    format: 'duration',
    default: '60s',
    doc: 'Wait between failing the health check and closing the listeners, for load balancers to notice. With a grace-period: at most a third of drain-timeout.',
  },
  'quiet-period': {
    format: 'duration',
    default: '0s',
    doc: 'Above 0s: end check-delay early once no new connection has arrived for this long.',
  },
  'min-open-connections': {
    format: 'count',
    default: 0,
    doc: 'This many open connections count as drained.',
  },
  'serve-port': {
    format: 'port',
    default: 8090,
    doc: 'Port of the manager’s HTTP endpoints; 0: any free port, printed at start.',
  },
  'serve-address': {
    format: 'host',
    default: '127.0.0.1',
    doc: 'Address of the manager’s HTTP endpoints; the profile `container` sets 0.0.0.0.',
  },
  'drain-timeout': {
    format: 'positive duration',
    default: '5m',
    doc: 'Upper bound of a whole drain, from its start; pm2’s kill_timeout is derived from it. With a grace-period: what that leaves.',
  },
  'grace-period': {
    format: 'grace period',
    default: null,
    doc: 'How long the platform waits between its first signal and SIGKILL. drain-timeout, check-delay and pm2’s kill_timeout follow from it unless they are set.',
  },
  'drain-until': {
    format: 'drain rule',
    default: 'connections',
    doc: '`connections`: wait until they are closed. `requests`: idle keep-alive connections don’t hold the exit; active requests, TCP connections and upgrades do.',
  },
  'drain-listeners': {
    format: 'listener rule',
    default: 'all',
    doc: 'What a drain of the host closes first. `all`: every listener. `inbound`: those with `traffic_direction: INBOUND`; the others (egress), which requests in flight may need, follow once no connection is open on those, and are waited for as well.',
  },
  'ignore-listeners': {
    format: 'list',
    default: [],
    doc: 'Listeners whose connections don’t count: stat names (`127.0.0.1_10000`) or globs (`127.0.0.1_*`).',
  },
  'shutdown-token': {
    format: 'token',
    default: null,
    secret: true,
    doc: 'Whoever sends it as `Authorization: Bearer` may use the endpoints that are otherwise for this host only.',
  },
  'shutdown-token-file': {
    format: 'path',
    default: null,
    doc: 'File with the shutdown token, in place of `shutdown-token`; read anew when it changes, refused when others can read it.',
  },
  'envoy-bin': {
    format: 'path',
    default: null,
    defaultText: 'found',
    doc: 'The Envoy binary. Not set: `ENVOY_BIN`, then `envoy` on PATH, then the copy that `pm2-envoy envoy install` keeps.',
  },
  'envoy-config': {
    format: 'path',
    default: 'config/envoy.yaml',
    doc: 'Envoy’s bootstrap file.',
  },
  'envoy-args': {
    format: 'arguments',
    default: [],
    doc: 'More arguments for Envoy, such as `--concurrency 2`. Envoy takes no `--concurrency=2`.',
  },
  'envoy-drain-time': {
    format: 'positive duration',
    default: '10m',
    doc: 'Envoy’s `--drain-time-s`, in whole seconds. A shorter one makes Envoy 1.40 close idle connections early, but cuts active websockets.',
  },
  'envoy-lost-after': {
    format: 'duration',
    default: '60s',
    doc: '`/healthz` turns 503 once Envoy has been gone for this long outside a drain; 0s: never.',
  },
  'envoy-stuck-after': {
    format: 'duration',
    default: '0s',
    doc: 'The runner ends an Envoy by SIGKILL whose admin interface has not answered for this long outside a drain, and pm2 starts another one; what it has open is cut. 0s: never.',
  },
  'orphaned-drain': {
    format: 'orphaned drain rule',
    default: 'report',
    doc: 'What the manager does about an Envoy that is DRAINING although no drain of pm2-envoy’s runs: say so in `/readyz`, `/status` and the log, have it pass its health check again (`resume`), or drain it (`shutdown`).',
  },
  'admin-address': {
    format: 'admin address',
    default: null,
    defaultText: 'the generation’s own socket',
    doc: 'Admin interface of an Envoy that pm2-envoy did not start. With it, only the manager runs under pm2.',
  },
  'run-dir': {
    format: 'path',
    default: null,
    defaultText:
      '`/run/pm2-envoy`, else `$XDG_RUNTIME_DIR/pm2-envoy`, else `pm2-envoy-UID` in the temp folder',
    doc: 'Folder (mode 0700) of the generations and the drain record. A default place in which an Envoy of this user lives comes first.',
  },
  plugins: {
    format: 'plugins',
    default: [],
    doc: 'Plugins: module paths, or `[path, options]`.',
  },
  'log-level': {
    format: 'log level',
    default: 'info',
    doc: 'What is logged.',
  },
  'log-format': {
    format: 'log format',
    default: 'auto',
    doc: 'JSON lines, or text for people; `auto` is text on a terminal.',
  },
};

/** All keys, in the schema's order. */
export const KEYS: readonly Key[] = Object.keys(SCHEMA) as Key[];

/** Whether `name` is a key of the configuration. */
export function isKey(name: string): name is Key {
  return Object.hasOwn(SCHEMA, name);
}

/** The entry of a key. */
export function specOf(key: Key): KeySpec {
  return SCHEMA[key];
}

/** The environment variable of a key: `check-interval` is `PM2_ENVOY_CHECK_INTERVAL`. */
export function variableOf(key: string): string {
  return `PM2_ENVOY_${key.toUpperCase().replaceAll('-', '_')}`;
}
