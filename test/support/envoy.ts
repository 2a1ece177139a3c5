import { type ChildProcess, spawn } from 'node:child_process';
import { openSync } from 'node:fs';
import { join } from 'node:path';
import { parseAdminAddress } from '../../src/admin/address.js';
import { type AdminClient, createAdminClient } from '../../src/admin/client.js';
import { type Backend, startBackend } from './backend.js';
import { type BootstrapPorts, writeBootstrap } from './bootstrap.js';
import { makeFolder } from './folder.js';
import { freePorts } from './ports.js';
import { patiently } from './wait.js';

/** A real Envoy that a test started by itself, with its backend. */
export interface TestEnvoy {
  ports: BootstrapPorts & { admin: number };
  adminUrl: string;
  admin: AdminClient;
  pid: number;
  folder: string;
  backend: Backend;
  /** Sends a signal to Envoy. */
  kill(signal: NodeJS.Signals): void;
  /** Ends everything that this started. */
  stop(): Promise<void>;
}

/** The Envoy that tests run; there is no going without. */
export function envoyBinary(
  name: 'ENVOY_BIN' | 'OLDER_ENVOY_BIN' | 'OLDEST_ENVOY_BIN' = 'ENVOY_BIN',
): string {
  const path = process.env[name];
  if (!path) throw new Error(`${name} is not set: run the tests by npm test`);
  return path;
}

/** How to start an Envoy. */
export interface TestEnvoyOptions {
  binary?: string;
  /** Root keys of the bootstrap to replace. */
  bootstrap?: Record<string, unknown>;
  args?: string[];
  /** Paths that admin.allow_paths allows; unless given, all. */
  allowed?: readonly string[];
  /** Words before the command; its admin interface is a unix socket then, which any namespace reaches. */
  within?: readonly string[];
}

/** Starts an Envoy without pm2-envoy's runner, its admin interface on a TCP port. */
export async function startTestEnvoy(options: TestEnvoyOptions = {}): Promise<TestEnvoy> {
  const binary = options.binary ?? envoyBinary();
  const folder = makeFolder();
  const backend = await startBackend();
  const [http = 0, tcp = 0, admin = 0] = await freePorts(3);
  const ports = { http, tcp, admin };
  const file = join(folder.path, 'envoy.yaml');
  const { within } = options;
  const socket = within && join(folder.path, 'admin.sock');
  const address = socket
    ? { pipe: { path: socket } }
    : { socket_address: { address: '127.0.0.1', port_value: admin } };
  const allow_paths = options.allowed?.map((prefix) => ({ prefix }));
  const ownAdmin = { admin: { address, ...(allow_paths ? { allow_paths } : {}) } };
  writeBootstrap(file, ports, backend, { ...ownAdmin, ...options.bootstrap });
  const log = openSync(join(folder.path, 'envoy.log'), 'w');
  const [command = '', ...args] = [...(within ?? []), binary, '-c', file, '--disable-hot-restart'];
  const child: ChildProcess = spawn(
    command,
    [...args, '--concurrency', '2', ...(options.args ?? [])],
    { stdio: ['ignore', log, log] },
  );
  const adminUrl = socket ? `unix:${socket}` : `http://127.0.0.1:${admin}`;
  const client = createAdminClient(parseAdminAddress(adminUrl));
  await patiently('Envoy to be LIVE', async () => (await client.state()) === 'LIVE');
  return {
    ports,
    adminUrl,
    admin: client,
    pid: child.pid ?? 0,
    folder: folder.path,
    backend,
    kill: (signal) => void child.kill(signal),
    stop: async () => {
      client.close();
      if (child.exitCode === null && child.signalCode === null) {
        const ended = new Promise((resolve) => child.once('exit', resolve));
        child.kill('SIGKILL');
        await ended;
      }
      await backend.close();
      folder.remove();
    },
  };
}

/** Runs a test with an Envoy of its own, and ends it after. */
export async function withEnvoy(
  options: TestEnvoyOptions,
  use: (envoy: TestEnvoy) => Promise<void>,
): Promise<void> {
  const envoy = await startTestEnvoy(options);
  try {
    await use(envoy);
  } finally {
    await envoy.stop();
  }
}
