/**
 * HTTP/3 and a UDP proxy over hand-overs, beside Envoy's own hot restart under the same load. Part of `npm run
 * bench`; alone: `npm run build && node --import tsx bench/http3.ts [hand-overs]`, which prints the table.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { openSync } from 'node:fs';
import { join } from 'node:path';
import { installEnvoy } from '../src/envoy/install.js';
import { startBackendProcess } from '../test/support/backend.js';
import { makeFolder } from '../test/support/folder.js';
import {
  droppedByKernel,
  type Http3Report,
  startEcho,
  startHttp3Load,
  startUdpLoad,
  type UdpReport,
  untilHttp3,
  writeUdpBootstrap,
} from '../test/support/http3.js';
import { freePorts } from '../test/support/ports.js';
import { withUdpHost } from '../test/support/udp-host.js';
import { rest } from './measure.js';

/** Hot restart's parent ends after so long; requests of 6 s fit in. */
const PARENT_S = 10;
const PARENT_LIMIT_MS = 30_000;
const BETWEEN_MS = 2_000;
/** They take longer, and say as much. */
const HOT_RESTARTS = 4;

interface Seen {
  /** Datagrams that the kernel dropped: the machine was too busy. */
  dropped: number;
  http3: Http3Report;
  udp: UdpReport;
}

/** The table: a line for each way and number of workers, a row of numbers for several in turn. */
export async function http3Table(handovers: number): Promise<string> {
  const lines: string[] = [];
  const add = (
    way: string,
    count: number,
    workers: string,
    { http3, udp, dropped }: Seen,
  ): void => {
    const { new: first, kept, long } = http3;
    const of = ({ lost, total }: { lost: number; total: number }): string => `${lost} of ${total}`;
    const cells = [
      of(first),
      of(kept),
      of(long),
      `${udp.lost} of ${udp.sent}${dropped > 0 ? ` (${dropped} found a full buffer)` : ''}`,
    ];
    lines.push(`| ${[way, count, workers, ...cells, `${http3.slowestMs}`].join(' | ')} |`);
    console.log(lines.at(-1));
  };
  const each = (count: number): number[] => Array<number>(handovers + 1).fill(count);
  for (const workers of [1, 2, 4]) {
    add('pm2-envoy', handovers, String(workers), await ours(each(workers)));
    const hot = Math.min(handovers, HOT_RESTARTS);
    add(
      'hot restart',
      hot,
      String(workers),
      await hotRestart(each(workers).slice(0, HOT_RESTARTS + 1)),
    );
  }
  const changing = each(2).map((count, index) => (index % 2 === 0 ? count : 4));
  add('pm2-envoy', handovers, '2 to 4 and back', await ours(changing));
  return `|  | hand-overs | workers | new connections that failed | requests on kept connections lost | requests of 6 s cut | datagrams lost | slowest new connection, ms |
| --- | --- | --- | --- | --- | --- | --- | --- |
${lines.join('\n')}`;
}

/** The table with what it is about, for the results. */
export function http3Section(table: string): string {
  return `## HTTP/3 and UDP over hand-overs

A client (quic-go) with 10 kept connections that make 10 requests a second each, 20 new connections a second, and a new
one each second whose request takes 6 s. Beside it 10 sources that send 50 datagrams a second each through a UDP proxy,
and 50 new sources a second of ten datagrams; each datagram is echoed 30 ms later. pm2-envoy by
\`pm2 reload\`; hot restart with a parent-shutdown-time of ${PARENT_S} s.

${table}
`;
}

function ours([first = 1, ...next]: readonly number[]): Promise<Seen> {
  const settings = (workers: number) => ({ 'envoy-args': ['--concurrency', String(workers)] });
  return new Promise((resolve, reject) => {
    const options = { ...settings(first), 'envoy-drain-time': '15s' };
    withUdpHost(options, async (host) => {
      const finish = startLoads(host.ports);
      for (const workers of next) {
        await rest(BETWEEN_MS);
        host.set(settings(workers));
        await host.replace('reload', 'envoy');
      }
      resolve(await finish());
    }).catch(reject);
  });
}

/** As hot-restarter.py does it: the next epoch is started, and the one before ends by itself. */
async function hotRestart([first = 1, ...next]: readonly number[]): Promise<Seen> {
  const folder = makeFolder();
  const backend = await startBackendProcess();
  const [http = 0, tcp = 0, http3 = 0, udp = 0, echo = 0] = await freePorts(5);
  const echoing = startEcho(echo);
  const file = join(folder.path, 'envoy.yaml');
  writeUdpBootstrap(file, { http, tcp, http3, udp, echo }, backend, { folder: folder.path });
  const log = openSync(join(folder.path, 'envoy.log'), 'w');
  const baseId = String(Math.floor(Math.random() * 30_000));
  const start = (epoch: number, workers: number): ChildProcess =>
    spawn(
      process.env['ENVOY_BIN'] ?? 'envoy',
      [
        ...['-c', file, '--base-id', baseId, '--restart-epoch', String(epoch)],
        ...['--parent-shutdown-time-s', String(PARENT_S), '--drain-time-s', String(PARENT_S - 2)],
        ...['--concurrency', String(workers)],
      ],
      { stdio: ['ignore', log, log] },
    );
  let current = start(0, first);
  try {
    await untilHttp3(http3);
    const finish = startLoads({ http3, udp });
    for (const [index, workers] of next.entries()) {
      await rest(BETWEEN_MS);
      const parent = current;
      current = start(index + 1, workers);
      // Seen to freeze, with its parent: what clients lose then is counted.
      await Promise.race([once(parent, 'exit'), rest(PARENT_LIMIT_MS)]);
      parent.kill('SIGKILL');
    }
    return await finish();
  } finally {
    current.kill('SIGKILL');
    echoing.stdin?.end();
    await backend.close();
    folder.remove();
  }
}

function startLoads(ports: { http3: number; udp: number }): () => Promise<Seen> {
  const before = droppedByKernel();
  const http3 = startHttp3Load(ports.http3);
  const udp = startUdpLoad(ports.udp);
  return async () => {
    await rest(BETWEEN_MS);
    const [requests, datagrams] = await Promise.all([http3.stop(), udp.stop()]);
    return { http3: requests, udp: datagrams, dropped: droppedByKernel() - before };
  };
}

if (process.argv[1] === import.meta.filename) {
  process.env['ENVOY_BIN'] ??= (await installEnvoy()).path;
  console.log(await http3Table(Number(process.argv[2] ?? 3)));
}
