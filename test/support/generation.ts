import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type AdminClient, createAdminClient } from '../../src/admin/client.js';
import { loadConfig } from '../../src/config/load.js';
import { checkLaunch } from '../../src/envoy/launch.js';
import { terminateEnvoy } from '../../src/envoy/process.js';
import { type Generations, openGenerations } from '../../src/host/generations.js';
import { silentLog } from '../../src/log.js';
import { type RunningGeneration, startGeneration } from '../../src/runner/start.js';
import { type Backend, startBackend } from './backend.js';
import { type BootstrapPorts, writeBootstrap } from './bootstrap.js';
import { envoyBinary } from './envoy.js';
import { makeFolder } from './folder.js';
import { freePorts } from './ports.js';

/** The Envoys of the table in docs/envoy-features.md: the oldest and the newest that are pinned. */
export const FEATURE_ENVOYS = ['OLDEST_ENVOY_BIN', 'ENVOY_BIN'] as const;

/** A generation that this process has started as a runner does, without pm2. */
export interface OwnGeneration extends RunningGeneration {
  admin: AdminClient;
}

/** A run directory, a backend and a bootstrap of the test's own. */
export interface Stage {
  folder: string;
  ports: BootstrapPorts & { admin: number };
  backend: Backend;
  bootstrap: string;
  generations: Generations;
  binary: string;
  /** Checks the bootstrap and starts it as a runner does. */
  start(how?: {
    binary?: string;
    liveLimitMs?: number;
    signal?: AbortSignal;
  }): Promise<OwnGeneration>;
}

/**
 * Runs a test on a stage; whatever it starts is ended.
 *
 * @param bootstrap root keys of the bootstrap to replace, given what it listens on
 */
export async function withStage(
  name: Parameters<typeof envoyBinary>[0],
  bootstrap: (ports: BootstrapPorts & { admin: number }, folder: string) => Record<string, unknown>,
  use: (stage: Stage) => Promise<void>,
): Promise<void> {
  const { path: folder, remove } = makeFolder();
  const backend = await startBackend();
  const [http = 0, tcp = 0, admin = 0] = await freePorts(3);
  const ports = { http, tcp, admin };
  const file = join(folder, 'envoy.yaml');
  writeBootstrap(file, ports, backend, bootstrap(ports, folder));
  const generations = openGenerations(folder);
  const binary = envoyBinary(name);
  const args = JSON.stringify(['-l', 'critical', '--concurrency', '1']);
  const clients: AdminClient[] = [];
  const start: Stage['start'] = async (how = {}) => {
    const { liveLimitMs = 30_000, signal = new AbortController().signal } = how;
    const { config } = loadConfig({
      env: {},
      flags: { 'envoy-bin': how.binary ?? binary, 'envoy-config': file, 'envoy-args': args },
    });
    const checked = await checkLaunch(config, folder);
    const options = { binary: checked.binary, config, generations, liveLimitMs, log: silentLog };
    const running = await startGeneration(options, signal);
    const client = createAdminClient({ kind: 'unix', path: running.generation.adminSocket });
    clients.push(client);
    return { ...running, admin: client };
  };
  try {
    await use({ folder, ports, backend, bootstrap: file, generations, binary, start });
  } finally {
    for (const client of clients) client.close();
    for (const { envoy } of generations.live()) await terminateEnvoy(envoy);
    await backend.close();
    remove();
  }
}

/** Changes a bootstrap file as JSON. */
export function changeBootstrap(
  file: string,
  change: (json: Record<string, unknown>) => void,
): void {
  const json: Record<string, unknown> = JSON.parse(readFileSync(file, 'utf8'));
  change(json);
  writeFileSync(file, JSON.stringify(json));
}

/** Writes an executable shell script. */
export function writeScript(path: string, ...lines: string[]): string {
  writeFileSync(path, ['#!/bin/sh', ...lines, ''].join('\n'));
  chmodSync(path, 0o755);
  return path;
}
