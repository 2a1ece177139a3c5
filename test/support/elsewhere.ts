import { spawn } from 'node:child_process';
import type { Backend } from './backend.js';
import { cluster, httpTo, listener, tcpTo } from './bootstrap.js';
import { envoyBinary } from './envoy.js';
import type { TestHost } from './hosts.js';
import { end } from './manager.js';
import type { TrafficPorts } from './traffic.js';
import { patiently } from './wait.js';

/** Another Envoy, which serves the same: where a load balancer sends its clients during a drain. */
export interface Elsewhere {
  ports: TrafficPorts;
  stop(): Promise<void>;
}

/** Starts it on a host of the test's own. */
export async function startElsewhere(host: TestHost, backend: Backend): Promise<Elsewhere> {
  const ports = { http: 20_000, tcp: 20_001 };
  const config = JSON.stringify(twoListeners(ports, backend));
  const args = ['--config-yaml', config, '--disable-hot-restart', '--concurrency', '1'];
  const [command = '', ...words] = [...host.within, envoyBinary(), ...args];
  const child = spawn(command, words, { stdio: 'ignore' });
  await patiently('the other Envoy to serve', async () => {
    return (await host.call({ port: ports.http })).status === 200;
  });
  return { ports, stop: () => end(child) };
}

/** A bootstrap with HTTP and a TCP proxy to the backend, on all addresses; `hcm` replaces what HTTP has. */
export function twoListeners(ports: TrafficPorts, backend: Backend, hcm: object = {}): object {
  return {
    static_resources: {
      listeners: [
        listener('web', ports.http, httpTo('http', { hcm }), '0.0.0.0'),
        listener('tcp', ports.tcp, tcpTo('tcp'), '0.0.0.0'),
      ],
      clusters: [cluster('http', backend.httpPort), cluster('tcp', backend.tcpPort)],
    },
  };
}
