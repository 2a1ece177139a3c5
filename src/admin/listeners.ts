import { listOf, objectOf } from '../json.js';
import { type Wanted, wantedBy } from './contents.js';

/** Where a listener listens. */
export interface ListenAddress {
  /** `abstract`: a unix socket without a file; `internal`: reachable within Envoy only. */
  kind: 'ip' | 'unix' | 'abstract' | 'internal';
  /** `127.0.0.1:10000`, `[::1]:80`, `/run/envoy.sock`, `@name`; an internal listener's name. */
  text: string;
  /** Of a unix socket's file, if the configuration sets it. */
  mode?: number;
}

/** A listener of a running Envoy, as `/listeners` shows it. */
export interface RunningListener {
  name: string;
  addresses: readonly ListenAddress[];
}

/** A listener as a configuration has it: a bootstrap's, or one of `/config_dump`. */
export interface ConfiguredListener {
  /** Empty: Envoy makes one up. */
  name: string;
  /** From a discovery service (LDS), not from the bootstrap. */
  isDynamic: boolean;
  addresses: readonly ListenAddress[];
  /** A port of 0: Envoy takes another free one at each start. */
  takesAnyPort: boolean;
  /** `enable_reuse_port`: only then can a second Envoy bind the same address. */
  reusesPort: boolean;
  /** `traffic_direction` */
  isInbound: boolean;
  /** HTTP/3, or a UDP proxy. */
  isUdp: boolean;
  /** How its stats are called: `web` in `listener.web.downstream_cx_active`. */
  statName: string;
  /** Envoy's latest complaint about it. */
  error?: string;
}

/** A listener in a `/config_dump`. */
export interface DumpedListener extends ConfiguredListener {
  /** What it refers to that comes from elsewhere. */
  wants: Wanted;
}

/** Reads the JSON of `/listeners`; throws a TypeError when it is something else. */
export function parseRunningListeners(json: unknown): RunningListener[] {
  const statuses = listOf(objectOf(json)['listener_statuses'], 'listener_statuses');
  return statuses.map((status) => {
    const { name, local_address, additional_local_addresses } = objectOf(status);
    const all = [local_address, ...listOf(additional_local_addresses, 'additional addresses')];
    return { name: textOf(name), addresses: all.flatMap(addressOf) };
  });
}

/** Reads the listeners of a `/config_dump`; throws a TypeError when it is something else. */
export function parseListenerDump(json: unknown): DumpedListener[] {
  return listOf(objectOf(json)['configs'], 'configs').map((entry) => {
    const { listener, active_state, warming_state, error_state, name } = objectOf(entry);
    const isDynamic = listener === undefined;
    const state = objectOf(active_state ?? warming_state);
    const given = listener ?? state['listener'] ?? { name };
    const { details: error, failed_configuration: refused } = objectOf(error_state);
    // If nothing else is there, the one that was refused says why.
    const shown = listener ?? state['listener'] ?? refused ?? { name };
    const configured = { ...readListener(shown, isDynamic), wants: wantedBy(given) };
    return { ...configured, ...(typeof error === 'string' && error !== '' ? { error } : {}) };
  });
}

/** Reads the listeners of a bootstrap, in either spelling of its keys. */
export function bootstrapListeners(bootstrap: unknown): ConfiguredListener[] {
  const resources = objectOf(keyOf(bootstrap, 'static_resources'));
  const listeners = keyOf(resources, 'listeners');
  return Array.isArray(listeners) ? listeners.map((one) => readListener(one, false)) : [];
}

function readListener(listener: unknown, isDynamic: boolean): ConfiguredListener {
  const name = textOf(keyOf(listener, 'name'));
  const more = keyOf(listener, 'additional_addresses');
  const all = [
    keyOf(listener, 'address'),
    ...(Array.isArray(more) ? more.map((one) => keyOf(one, 'address')) : []),
  ];
  const addresses = all.flatMap(addressOf);
  const prefix = textOf(keyOf(listener, 'stat_prefix'));
  const isInternal = keyOf(listener, 'internal_listener') !== undefined;
  return {
    name,
    isDynamic,
    addresses: isInternal ? [{ kind: 'internal', text: name }] : addresses,
    takesAnyPort: all.some((one) => Number(portOf(keyOf(one, 'socket_address'))) === 0),
    reusesPort: keyOf(listener, 'enable_reuse_port') !== false,
    isInbound: [1, 'INBOUND'].includes(keyOf(listener, 'traffic_direction') as string),
    isUdp: all.some((one) =>
      [1, 'UDP'].includes(keyOf(keyOf(one, 'socket_address'), 'protocol') as string),
    ),
    statName: prefix === '' ? (addresses[0]?.text.replaceAll(':', '_') ?? '') : prefix,
  };
}

function addressOf(address: unknown): ListenAddress[] {
  const pipe = keyOf(address, 'pipe');
  const path = keyOf(pipe, 'path');
  if (typeof path === 'string') {
    const mode = Number(keyOf(pipe, 'mode') ?? 0);
    if (path.startsWith('@')) return [{ kind: 'abstract', text: path }];
    return [{ kind: 'unix', text: path, ...(mode > 0 ? { mode } : {}) }];
  }
  const internal = keyOf(keyOf(address, 'envoy_internal_address'), 'server_listener_name');
  if (typeof internal === 'string') return [{ kind: 'internal', text: internal }];
  const socket = keyOf(address, 'socket_address');
  const host = keyOf(socket, 'address');
  if (typeof host !== 'string') return [];
  const port = Number(portOf(socket));
  return [{ kind: 'ip', text: host.includes(':') ? `[${host}]:${port}` : `${host}:${port}` }];
}

/** Protobuf leaves out a number that is 0. */
function portOf(socket: unknown): unknown {
  if (socket === undefined || keyOf(socket, 'named_port') !== undefined) return undefined;
  return keyOf(socket, 'port_value') ?? 0;
}

/** A key in either of the spellings that Envoy takes: `port_value`, `portValue`. */
function keyOf(value: unknown, key: string): unknown {
  const record = objectOf(value);
  return record[key] ?? record[key.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase())];
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : '';
}
