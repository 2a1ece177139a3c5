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

/** Every key of the configuration, in reading order (docs/configuration.md). */
export const SCHEMA: Readonly<Record<Key, KeySpec>> = {
  'check-interval': {
    format: 'positive duration',
    default: '5s',
    doc: 'Longest time between two polls of the open connections.',
  },
  'check-interval-min': {
    format: 'positive duration',
    default: '100ms',
    doc: 'Shortest time between two polls; used near the end of a drain, as long as polling takes at most 2 % of Envoy’s main thread.',
  },
  'check-delay': {
    format: 'duration',
    default: '60s',
    doc: 'Time between failing the health check and closing the listeners, so that load balancers notice. With a grace-period: at most a third of drain-timeout.',
  },
  'quiet-period': {
    format: 'duration',
    default: '0s',
    doc: 'If above 0s, check-delay ends early once no new connection has arrived for this long.',
  },
  'min-open-connections': {
    format: 'count',
    default: 0,
    doc: 'A drain is complete when at most this many connections are open.',
  },
  'serve-port': {
    format: 'port',
    default: 8090,
    doc: 'Port of the manager’s HTTP endpoints; 0 means any free port, printed at start.',
  },
  'serve-address': {
    format: 'host',
    default: '127.0.0.1',
    doc: 'Address of the manager’s HTTP endpoints; the profile `container` sets 0.0.0.0.',
  },
  'drain-timeout': {
    format: 'positive duration',
    default: '5m',
    doc: 'Upper bound of the whole drain, from its start; pm2’s kill_timeout is derived from it. With a grace-period: what remains of it.',
  },
  'grace-period': {
    format: 'grace period',
    default: null,
    doc: 'How long the platform waits between its first signal and SIGKILL. drain-timeout, check-delay and pm2’s kill_timeout are derived from it unless they are set.',
  },
  'drain-until': {
    format: 'drain rule',
    default: 'connections',
    doc: '`connections`: wait until all are closed. `requests`: do not wait for idle keep-alive connections, only for active requests, TCP connections and upgrades.',
  },
  'drain-listeners': {
    format: 'listener rule',
    default: 'all',
    doc: 'Which listeners a drain of the host closes first. `all`: every listener. `inbound`: those with `traffic_direction: INBOUND`; the others (egress), which requests in flight may need, close once the inbound ones have no open connections, and the drain waits for their connections too.',
  },
  'ignore-listeners': {
    format: 'list',
    default: [],
    doc: 'Listeners whose connections are not counted: stat names (`127.0.0.1_10000`) or globs (`127.0.0.1_*`).',
  },
  'shutdown-token': {
    format: 'token',
    default: null,
    secret: true,
    doc: 'A caller that sends it as `Authorization: Bearer` may use the endpoints that are otherwise limited to this host.',
  },
  'shutdown-token-file': {
    format: 'path',
    default: null,
    doc: 'File with the shutdown token, instead of `shutdown-token`; read again when it changes, refused when other users can read it.',
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
    doc: 'The runner kills (SIGKILL) an Envoy whose admin interface has not answered for this long outside a drain, and pm2 starts another one; open connections are cut. 0s: never.',
  },
  'orphaned-drain': {
    format: 'orphaned drain rule',
    default: 'report',
    doc: 'What the manager does with an Envoy that is DRAINING although pm2-envoy runs no drain: report it in `/readyz`, `/status` and the log, make it pass its health check again (`resume`), or drain it (`shutdown`).',
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
    doc: 'Directory (mode 0700) of the generations and the drain record. A default directory that holds a running Envoy of this user comes first.',
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
