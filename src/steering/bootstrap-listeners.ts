import {
  isAlias,
  isMap,
  isScalar,
  isSeq,
  type Node,
  type Pair,
  parseDocument,
  type YAMLMap,
} from 'yaml';
import { CONNECTION_ID_BYTES } from './filter.js';

/** A UDP listener of a bootstrap file. */
export interface UdpListener {
  readonly name: string;
  readonly port: number;
  readonly carries: 'quic' | 'udp';
}

/** What a bootstrap file says of UDP. */
export interface UdpListeners {
  readonly listeners: readonly UdpListener[];
  /** QUIC listeners whose connection ids are made by a generator of the user's own, without our mark. */
  readonly foreign: readonly string[];
  /** QUIC listeners that no generator can be put into. */
  readonly unmarkable: readonly string[];
  /** Listeners come from a control plane or a file as well. */
  readonly hasLds: boolean;
  /**
   * The file with a direction for each TCP listener that has none, so that those can be closed alone. All else
   * is as it was.
   */
  readonly directed: string;
  /** The same with a generator in each QUIC listener that has none. */
  readonly marked: string;
}

/** Name of the secret that has the mark of a generation: a generator of the user's own can use it. */
export const MARK_SECRET = 'pm2-envoy-generation';

const GENERATOR = {
  name: 'envoy.quic.connection_id_generator.quic_lb',
  typed_config: {
    '@type': 'type.googleapis.com/envoy.extensions.quic.connection_id_generator.quic_lb.v3.Config',
    server_id: { inline_string: 'e' },
    // One byte each for the mark, the server and the worker.
    nonce_length_bytes: CONNECTION_ID_BYTES - 3,
    encryption_parameters: { name: MARK_SECRET },
  },
};

/**
 * Reads the UDP listeners of a bootstrap, YAML or JSON, and puts our generator of connection ids into those
 * for QUIC. Undefined when the text can't be read so; Envoy itself says what is wrong with it.
 */
export function readUdpListeners(text: string): UdpListeners | undefined {
  const document = parseDocument(text, { version: '1.1', merge: true, uniqueKeys: false });
  if (document.errors.length > 0) return undefined;
  const at = (node: unknown, ...names: string[]): Node | undefined => {
    const found = pairOf(resolved(node), names)?.value;
    return resolved(found) ?? undefined;
  };
  const resolved = (node: unknown): Node | undefined =>
    (isAlias(node) ? node.resolve(document) : (node as Node | null)) ?? undefined;

  const listeners: UdpListener[] = [];
  const foreign: string[] = [];
  const unmarkable: string[] = [];
  const edits = new Map<number, string>();
  const directions = new Map<number, string>();
  const all = at(at(document.contents, 'static_resources', 'staticResources'), 'listeners');
  for (const item of isSeq(all) ? all.items : []) {
    const listener = resolved(item);
    const socket = at(at(listener, 'address'), 'socket_address', 'socketAddress');
    const name = textOf(at(listener, 'name')) ?? 'a listener without a name';
    const port = Number(textOf(at(socket, 'port_value', 'portValue')));
    const options = pairOf(at(listener, 'udp_listener_config', 'udpListenerConfig'), [
      'quic_options',
      'quicOptions',
    ]);
    if (options) {
      listeners.push({ name, port, carries: 'quic' });
      const value = resolved(options.value);
      const own = at(value, 'connection_id_generator_config', 'connectionIdGeneratorConfig');
      if (own && !isOurs(own.toJS(document))) foreign.push(name);
      const edit = own ? undefined : insertion(text, options, value);
      if (edit) edits.set(edit.offset, edit.text);
      else if (!own) unmarkable.push(name);
    } else if (/^(UDP|1)$/.test(textOf(at(socket, 'protocol')) ?? '')) {
      listeners.push({ name, port, carries: 'udp' });
    } else if (
      socket &&
      isMap(listener) &&
      !pairOf(listener, ['traffic_direction', 'trafficDirection'])
    ) {
      const edit = intoMap(text, listener, '"traffic_direction": "INBOUND"');
      if (edit) directions.set(edit.offset, edit.text);
    }
  }
  const dynamic = at(document.contents, 'dynamic_resources', 'dynamicResources');
  return {
    listeners,
    foreign,
    unmarkable,
    hasLds: at(dynamic, 'lds_config', 'ldsConfig', 'lds_resources_locator') !== undefined,
    marked: applied(text, new Map([...edits, ...directions])),
    directed: applied(text, directions),
  };
}

/** The root keys that give a generation its mark; beside the admin address, by `--config-yaml`. */
export function markSecret(mark: number, key: Buffer): object {
  const inline = (bytes: Buffer): object => ({ inline_bytes: bytes.toString('base64') });
  const secrets = {
    encryption_key: inline(key),
    configuration_version: inline(Buffer.from([mark])),
  };
  return { static_resources: { secrets: [{ name: MARK_SECRET, generic_secret: { secrets } }] } };
}

/** First byte of the connection ids of a generation: its mark in three bits, and a length (quic_lb). */
export function firstByteOf(mark: number): number {
  return (mark << 5) | (CONNECTION_ID_BYTES - 2);
}

function isOurs(generator: unknown): boolean {
  const text = JSON.stringify(generator);
  return (
    text.includes(`"${MARK_SECRET}"`) &&
    /"server_?[iI]d":\{"inline_?([sS]tring":"[ -~]|[bB]ytes":"..==)"/.test(text) &&
    new RegExp(`"nonce_?[lL]ength_?[bB]ytes":${CONNECTION_ID_BYTES - 3}\\b`).test(text)
  );
}

/** The last of repeated keys counts, as for Envoy. */
function pairOf(node: unknown, names: readonly string[]): Pair | undefined {
  if (!isMap(node)) return undefined;
  return node.items.findLast(({ key }) => isScalar(key) && names.includes(String(key.value)));
}

function textOf(node: unknown): string | undefined {
  return isScalar(node) && node.value !== null ? String(node.value) : undefined;
}

/** Where and what to put into the text, so that quic_options have the generator. */
function insertion(
  text: string,
  { key }: Pair,
  value: Node | undefined,
): { offset: number; text: string } | undefined {
  const entry = `"connection_id_generator_config": ${JSON.stringify(GENERATOR)}`;
  if (isMap(value)) return intoMap(text, value, entry);
  if (isScalar(key) && key.range && textOf(value) === undefined) {
    const colon = text.indexOf(':', key.range[1]);
    const [start, end] = (isScalar(value) && value.range) || [colon + 1, colon + 1];
    // `null`, or nothing at all.
    if (end > start) return undefined;
    return { offset: colon + 1, text: ` {${entry}}` };
  }
  return undefined;
}

function intoMap(
  text: string,
  map: YAMLMap,
  entry: string,
): { offset: number; text: string } | undefined {
  if (!map.range) return undefined;
  const [offset] = map.range;
  if (map.flow) {
    const more = map.items.length > 0 ? ', ' : '';
    return { offset: offset + 1, text: `${entry}${more}` };
  }
  const first = map.items[0]?.key;
  const [start] = (isScalar(first) && first.range) || [offset];
  const column = start - (text.lastIndexOf('\n', start - 1) + 1);
  return { offset: start, text: `${entry}\n${' '.repeat(column)}` };
}

function applied(text: string, edits: ReadonlyMap<number, string>): string {
  return [...edits]
    .sort(([a], [b]) => b - a)
    .reduce((so, [offset, more]) => so.slice(0, offset) + more + so.slice(offset), text);
}
