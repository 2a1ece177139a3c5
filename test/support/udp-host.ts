import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isAlive } from '../../src/host/process-identity.js';
import { startBackendProcess } from './backend.js';
import { makeFolder } from './folder.js';
import {
  startEcho,
  type UdpBootstrapOptions,
  type UdpPorts,
  untilHttp3,
  writeUdpBootstrap,
} from './http3.js';
import { preparePm2, type TestPm2 } from './pm2.js';
import { freePorts } from './ports.js';
import { eventually } from './wait.js';

/** A pm2 of the test's own whose Envoy serves HTTP/3 and proxies UDP. */
export interface UdpHost {
  pm2: TestPm2;
  ports: Required<Pick<UdpPorts, 'http3' | 'udp' | 'echo'>>;
  /** Changes settings of pm2-envoy, for the next runner. */
  set(settings: Record<string, unknown>): void;
  /** Writes the bootstrap again. */
  bootstrap(options?: UdpBootstrapOptions): void;
  /** Has pm2 replace the Envoy in service, and waits until the old one has ended. */
  replace(...command: string[]): Promise<void>;
  stop(): Promise<void>;
}

/** Prepares it; nothing is started but its backend. */
export async function prepareUdpHost(settings: Record<string, unknown> = {}): Promise<UdpHost> {
  const folder = makeFolder();
  const file = join(folder.path, 'envoy.yaml');
  const [http3 = 0, udp = 0, echo = 0] = await freePorts(3);
  const echoing = startEcho(echo);
  const pm2 = await preparePm2({ 'envoy-config': file, ...settings }, startBackendProcess);
  const bootstrap: UdpHost['bootstrap'] = (options = {}) =>
    writeUdpBootstrap(file, { ...pm2.ports, http3, udp, echo }, pm2.backend, {
      folder: folder.path,
      ...options,
    });
  bootstrap();
  return {
    pm2,
    ports: { http3, udp, echo },
    set: (more) => {
      Object.assign(pm2.settings, more);
      writeFileSync(join(pm2.folder, 'pm2-envoy.json'), JSON.stringify(pm2.settings));
    },
    bootstrap,
    replace: async (...command) => {
      const [old] = pm2.generations();
      await pm2.pm2(...command);
      await eventually('the old Envoy to end', () => !old || !isAlive(old.envoy), 90_000);
    },
    stop: async () => {
      await pm2.stop();
      echoing.stdin?.end();
      folder.remove();
    },
  };
}

/** The same, started, while `use` runs. */
export async function withUdpHost(
  settings: Record<string, unknown>,
  use: (host: UdpHost) => Promise<void>,
): Promise<void> {
  const host = await prepareUdpHost(settings);
  try {
    await host.pm2.start();
    await untilHttp3(host.ports.http3);
    await use(host);
  } finally {
    await host.stop();
  }
}
