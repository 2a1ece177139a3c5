import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import type { Backend } from './backend.js';
import { address, type BootstrapPorts, cluster, httpTo, listener, tcpTo } from './bootstrap.js';
import { patiently } from './wait.js';

const SOURCE = join(import.meta.dirname, 'quic');
const V3 = 'type.googleapis.com/envoy.extensions';

/** What became of the requests of one kind. */
export interface Tally {
  total: number;
  lost: number;
  why: Record<string, number>;
}

/** What an HTTP/3 client of several kinds has seen. */
export interface Http3Report {
  new: Tally;
  kept: Tally;
  long: Tally;
  reopened: number;
  slowestMs: number;
}

/** What a client of a UDP proxy has seen. */
export interface UdpReport {
  sent: number;
  lost: number;
  sessions: number;
  moved: number;
}

/** A load that runs. */
export interface Load<Report> {
  /** Ends it, waits for what is under way, and gives what it has seen. */
  stop(): Promise<Report>;
  kill(): void;
}

/** The client and the echo, which Go builds once (quic-go from the Go module proxy). */
export function quicLoad(): string {
  const hash = createHash('sha256');
  for (const file of readdirSync(SOURCE).sort()) hash.update(readFileSync(join(SOURCE, file)));
  const folder = join(homedir(), '.cache/pm2-envoy-test');
  const binary = join(folder, `quicload-${hash.digest('hex').slice(0, 12)}`);
  if (existsSync(binary)) return binary;
  mkdirSync(folder, { recursive: true });
  execFileSync('go', ['build', '-o', binary, '.'], {
    cwd: SOURCE,
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  return binary;
}

/** Starts a load of HTTP/3 requests; without flags 10 kept connections, 20 new a second, one of 6 s a second. */
export function startHttp3Load(port: number, flags: readonly string[] = [], host = '127.0.0.1') {
  return startLoad<Http3Report>(['http3', `https://${host}:${port}`, ...flags]);
}

/** Starts a load of numbered datagrams. */
export function startUdpLoad(
  port: number,
  flags: readonly string[] = [],
  host = '127.0.0.1',
): Load<UdpReport> {
  return startLoad<UdpReport>(['udp', `${host}:${port}`, ...flags]);
}

/** Starts a UDP server that sends back what it gets, 30 ms later. */
export function startEcho(port: number): ChildProcess {
  return spawn(quicLoad(), ['echo', `127.0.0.1:${port}`], { stdio: ['pipe', 'ignore', 'inherit'] });
}

/** What a bootstrap with UDP listens on, beside TCP. */
export interface UdpPorts extends BootstrapPorts {
  http3?: number;
  udp?: number;
  /** Where the UDP proxy sends to. */
  echo?: number;
}

/** What there is to choose. */
export interface UdpBootstrapOptions {
  /** Address of the UDP listeners; 127.0.0.1 if left out. */
  host?: string;
  quicOptions?: object;
  /** Envoy binds its sockets, and waits for a control plane for good. */
  isStuck?: boolean;
}

/** Writes a bootstrap with listeners for HTTP/3 and a UDP proxy beside those of TCP. */
export function writeUdpBootstrap(
  file: string,
  ports: UdpPorts,
  backend: Pick<Backend, 'httpPort' | 'tcpPort'>,
  { folder, host, quicOptions = {}, isStuck = false }: UdpBootstrapOptions & { folder: string },
): void {
  const bootstrap = {
    ...(ports.admin ? { admin: { address: address(ports.admin) } } : {}),
    node: { id: 'test', cluster: 'test' },
    static_resources: {
      listeners: [
        listener('web', ports.http, httpTo('http')),
        listener('tcp', ports.tcp, tcpTo('tcp')),
        ...(ports.http3 ? [quicListener(ports.http3, folder, host, quicOptions)] : []),
        ...(ports.udp ? [udpProxy(ports.udp, host)] : []),
      ],
      clusters: [
        cluster('http', backend.httpPort),
        cluster('tcp', backend.tcpPort),
        ...(ports.echo ? [cluster('echo', ports.echo)] : []),
        ...(isStuck ? [waitingCluster('tcp')] : []),
      ],
    },
  };
  writeFileSync(file, JSON.stringify(bootstrap, undefined, 2));
}

/** Its endpoints come from a control plane that does not answer. */
function waitingCluster(controlPlane: string): unknown {
  const grpc_services = [{ envoy_grpc: { cluster_name: controlPlane } }];
  return {
    name: 'waiting',
    type: 'EDS',
    eds_cluster_config: {
      eds_config: {
        resource_api_version: 'V3',
        initial_fetch_timeout: '0s',
        api_config_source: { api_type: 'GRPC', transport_api_version: 'V3', grpc_services },
      },
    },
  };
}

function udpAddress(port: number, host = '127.0.0.1'): object {
  return { socket_address: { protocol: 'UDP', address: host, port_value: port } };
}

function quicListener(port: number, folder: string, host?: string, quicOptions?: object): unknown {
  if (!existsSync(join(folder, 'cert.pem'))) execFileSync(quicLoad(), ['cert', folder]);
  const tls_certificates = [
    {
      certificate_chain: { filename: join(folder, 'cert.pem') },
      private_key: { filename: join(folder, 'key.pem') },
    },
  ];
  const hcm = { codec_type: 'HTTP3', http3_protocol_options: {}, stat_prefix: 'http3' };
  return {
    name: 'http3',
    address: udpAddress(port, host),
    udp_listener_config: {
      quic_options: quicOptions,
      downstream_socket_config: { prefer_gro: true },
    },
    filter_chains: [
      {
        filters: [httpTo('http', { hcm })],
        transport_socket: {
          name: 'envoy.transport_sockets.quic',
          typed_config: {
            '@type': `${V3}.transport_sockets.quic.v3.QuicDownstreamTransport`,
            downstream_tls_context: { common_tls_context: { tls_certificates } },
          },
        },
      },
    ],
  };
}

function udpProxy(port: number, host?: string): unknown {
  return {
    name: 'udp',
    address: udpAddress(port, host),
    listener_filters: [
      {
        name: 'envoy.filters.udp_listener.udp_proxy',
        typed_config: {
          '@type': `${V3}.filters.udp.udp_proxy.v3.UdpProxyConfig`,
          stat_prefix: 'echo',
          // A cluster takes 1024 sessions by default.
          idle_timeout: '10s',
          matcher: {
            on_no_match: {
              action: {
                name: 'route',
                typed_config: { '@type': `${V3}.filters.udp.udp_proxy.v3.Route`, cluster: 'echo' },
              },
            },
          },
        },
      },
    ],
  };
}

function startLoad<Report>(args: readonly string[]): Load<Report> {
  const child = spawn(quicLoad(), args, { stdio: ['pipe', 'pipe', 'inherit'] });
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => {
    output += chunk;
  });
  const ended = once(child, 'exit');
  return {
    stop: async () => {
      child.stdin.end();
      await ended;
      return JSON.parse(output) as Report;
    },
    kill: () => void child.kill('SIGKILL'),
  };
}

/**
 * Datagrams that the kernel has dropped in this network namespace because a socket's buffer was full: on a
 * machine that is too busy for an Envoy to read, no one else loses them.
 */
export function droppedByKernel(): number {
  const [names = '', values = ''] = readFileSync('/proc/net/snmp', 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('Udp:'));
  const column = names.split(' ').indexOf('RcvbufErrors');
  const v6 = /^Udp6RcvbufErrors\s+(\d+)/m.exec(readFileSync('/proc/net/snmp6', 'utf8'))?.[1];
  return Number(values.split(' ')[column]) + Number(v6 ?? 0);
}

/** Waits until HTTP/3 is served. */
export async function untilHttp3(port: number): Promise<void> {
  await patiently('HTTP/3 to be served', async () => {
    const load = startHttp3Load(port, ['-kept', '0', '-new-every', '10ms', '-long-every', '0']);
    await new Promise((resolve) => setTimeout(resolve, 30));
    const { new: first } = await load.stop();
    return first.total > 0 && first.lost === 0;
  });
}
