import { writeFileSync } from 'node:fs';
import type { Backend } from './backend.js';

/** What a test's Envoy listens on. */
export interface BootstrapPorts {
  http: number;
  tcp: number;
  /** The bootstrap's own admin address. */
  admin?: number;
  /** Another port with the same HTTP as `http`. */
  alsoHttp?: number;
}

const V3 = 'type.googleapis.com/envoy.extensions';

/**
 * Writes a bootstrap file: one HTTP listener (with WebSocket, HTTP/2 and an access log on /dev/stdout),
 * one TCP proxy, both to `backend`. It is JSON, which is YAML as well.
 */
export function writeBootstrap(
  file: string,
  ports: BootstrapPorts,
  backend: Pick<Backend, 'httpPort' | 'tcpPort'>,
  more: Record<string, unknown> = {},
): void {
  const bootstrap = {
    ...(ports.admin ? { admin: { address: address(ports.admin) } } : {}),
    static_resources: {
      listeners: [
        listener('web', ports.http, httpTo('http')),
        ...(ports.alsoHttp
          ? [listener('web2', ports.alsoHttp, httpTo('http', { hcm: { stat_prefix: 'web2' } }))]
          : []),
        listener('tcp', ports.tcp, tcpTo('tcp')),
      ],
      clusters: [cluster('http', backend.httpPort), cluster('tcp', backend.tcpPort)],
    },
    ...more,
  };
  writeFileSync(file, JSON.stringify(bootstrap, undefined, 2));
}

/** A listener on 127.0.0.1 or the host given, with one filter. */
export function listener(name: string, port: number, filter: unknown, host?: string): unknown {
  return { name, address: address(port, host), filter_chains: [{ filters: [filter] }] };
}

/** An HTTP connection manager that sends everything to one cluster. */
export function httpTo(
  clusterName: string,
  { hcm = {}, route = {}, router = {} }: { hcm?: object; route?: object; router?: object } = {},
): unknown {
  return {
    name: 'envoy.filters.network.http_connection_manager',
    typed_config: {
      '@type': `${V3}.filters.network.http_connection_manager.v3.HttpConnectionManager`,
      stat_prefix: 'web',
      upgrade_configs: [{ upgrade_type: 'websocket' }],
      access_log: [
        {
          name: 'envoy.access_loggers.file',
          typed_config: {
            '@type': `${V3}.access_loggers.file.v3.FileAccessLog`,
            path: '/dev/stdout',
          },
        },
      ],
      route_config: {
        virtual_hosts: [
          {
            name: 'all',
            domains: ['*'],
            routes: [
              { match: { prefix: '/' }, route: { cluster: clusterName, timeout: '0s' }, ...route },
            ],
          },
        ],
      },
      http_filters: [
        {
          name: 'envoy.filters.http.router',
          typed_config: { '@type': `${V3}.filters.http.router.v3.Router`, ...router },
        },
      ],
      ...hcm,
    },
  };
}

/** A TCP proxy to one cluster. */
export function tcpTo(clusterName: string): unknown {
  return {
    name: 'envoy.filters.network.tcp_proxy',
    typed_config: {
      '@type': `${V3}.filters.network.tcp_proxy.v3.TcpProxy`,
      stat_prefix: 'tcp',
      cluster: clusterName,
    },
  };
}

/** A cluster of one port on 127.0.0.1. */
export function cluster(name: string, port: number): unknown {
  return {
    name,
    type: 'STATIC',
    load_assignment: {
      cluster_name: name,
      endpoints: [{ lb_endpoints: [{ endpoint: { address: address(port) } }] }],
    },
  };
}

/** A TCP address. */
export function address(port: number, host = '127.0.0.1'): unknown {
  return { socket_address: { address: host, port_value: port } };
}
