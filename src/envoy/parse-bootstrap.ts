import { readFileSync } from 'node:fs';
import { parse } from 'yaml';

/** Where a listener of the bootstrap accepts TCP connections. */
export interface BootstrapListener {
  host: string;
  port: number;
}

/**
 * The TCP addresses that the bootstrap itself names; none where it can't be read. For `npm start`, where there may be
 * no Envoy yet: read-bootstrap.ts asks Envoy, and does not keep the process busy.
 */
export function readBootstrapListeners(file: string): BootstrapListener[] {
  const bootstrap = parseBootstrap(file) as Bootstrap | undefined;
  const listeners = bootstrap?.static_resources?.listeners;
  if (!Array.isArray(listeners)) return [];
  return listeners.flatMap(({ address }) => {
    const { address: host, port_value, protocol = 'TCP' } = address?.socket_address ?? {};
    const port = Number(port_value);
    const isTcp = protocol === 'TCP' && typeof host === 'string' && port > 0;
    return isTcp ? [{ host, port }] : [];
  });
}

/** A bootstrap file as Envoy's YAML reader takes it; undefined: it can't be read here (`.pb`, `.pb_text`). */
function parseBootstrap(file: string): unknown {
  if (/\.pb(_text)?$/.test(file)) return undefined;
  try {
    const options = { version: '1.1', merge: true, uniqueKeys: false, maxAliasCount: -1 } as const;
    return parse(readFileSync(file, 'utf8'), options) ?? undefined;
  } catch {
    return undefined;
  }
}

interface Bootstrap {
  static_resources?: { listeners?: readonly { address?: BootstrapAddress }[] };
}

interface BootstrapAddress {
  socket_address?: { address?: unknown; port_value?: unknown; protocol?: unknown };
}
