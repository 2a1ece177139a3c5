import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Config } from '../../src/config/config.js';
import { loadConfig } from '../../src/config/load.js';
import { terminateEnvoy } from '../../src/envoy/process.js';
import { type Generation, type Generations, openGenerations } from '../../src/host/generations.js';
import { startGeneration } from '../../src/runner/start.js';
import { createFakeLog, type FakeLog } from '../unit/fakes.js';
import { startBackend } from './backend.js';
import { cluster, httpTo, listener } from './bootstrap.js';
import { envoyBinary } from './envoy.js';
import { makeFolder } from './folder.js';
import { freePorts } from './ports.js';

const LISTENER = 'type.googleapis.com/envoy.config.listener.v3.Listener';

/** A run directory and a bootstrap of the test's own, for generations without pm2. */
export interface TestGenerations {
  config: Config;
  folder: string;
  generations: Generations;
  ports: number[];
  log: FakeLog;
  /** Writes a file into the folder, as JSON if it is no text, and tells its path. */
  write(name: string, content: unknown): string;
  /** Writes the bootstrap: its listeners, where the rest comes from, and more clusters. */
  bootstrap(listeners: readonly object[], dynamic?: object, clusters?: readonly object[]): void;
  /** Has every later bootstrap hide all stats. */
  hideStats(): void;
  /** Starts the next generation. */
  start(): Promise<Generation>;
}

/** Runs a test with generations of a binary; whatever they start is ended. */
export async function withGenerations(
  binary: string,
  use: (stage: TestGenerations) => Promise<void>,
): Promise<void> {
  const { path: folder, remove } = makeFolder();
  const backend = await startBackend();
  const ports = await freePorts(4);
  const generations = openGenerations(folder);
  const log = createFakeLog();
  let hiding: object = {};
  const write = (name: string, content: unknown): string => {
    const path = join(folder, name);
    writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content));
    return path;
  };
  const { config } = loadConfig({
    env: {},
    flags: {
      'envoy-bin': binary,
      'envoy-config': join(folder, 'envoy.json'),
      'envoy-args': JSON.stringify(['--concurrency', '1', '-l', 'warning']),
    },
  });
  try {
    await use({
      ...{ config, folder, generations, ports, log, write },
      hideStats: () => {
        hiding = { stats_config: { stats_matcher: { reject_all: true } } };
      },
      bootstrap: (listeners, dynamic, more = []) => {
        const clusters = [cluster('http', backend.httpPort), nobody(), ...more];
        write('envoy.json', {
          ...hiding,
          node: { id: 'test', cluster: 'test' },
          dynamic_resources: dynamic,
          static_resources: { clusters, listeners },
        });
      },
      start: async () => {
        const liveLimitMs = 60_000;
        const running = await startGeneration(
          { binary, config, generations, liveLimitMs, log: log.log },
          new AbortController().signal,
        );
        return running.generation;
      },
    });
  } finally {
    for (const { envoy } of generations.live()) await terminateEnvoy(envoy);
    await backend.close();
    remove();
  }
}

/** An HTTP listener. */
export function webListener(name: string, port: number, more: object = {}, hcm: object = {}) {
  return {
    ...(listener(name, port, httpTo('http', { hcm: { stat_prefix: name, ...hcm } })) as object),
    ...more,
  };
}

/** What LDS answers. */
export function ldsAnswer(listeners: readonly object[]): unknown {
  return { resources: listeners.map((one) => ({ '@type': LISTENER, ...one })) };
}

/** A discovery source that is a file. */
export function fromFile(path: string, more: object = {}) {
  return { path_config_source: { path }, resource_api_version: 'V3', ...more };
}

/** A management server where no one listens. */
export function fromNobody(apiType: 'REST' | 'GRPC', more: object = {}) {
  const grpc = { grpc_services: [{ envoy_grpc: { cluster_name: 'nobody' } }] };
  const rest = { cluster_names: ['nobody'], refresh_delay: '60s' };
  return {
    initial_fetch_timeout: '1s',
    resource_api_version: 'V3',
    api_config_source: {
      api_type: apiType,
      transport_api_version: 'V3',
      ...(apiType === 'GRPC' ? grpc : rest),
    },
    ...more,
  };
}

/** The cluster of {@link fromNobody}. */
function nobody(): unknown {
  return {
    ...(cluster('nobody', 1) as object),
    typed_extension_protocol_options: {
      'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
        '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
        explicit_http_config: { http2_protocol_options: {} },
      },
    },
  };
}

/** The oldest and the newest Envoy that are pinned. */
export function oldestAndNewest(): { version: string; binary: string }[] {
  return [
    { version: '1.40.0', binary: envoyBinary() },
    { version: '1.36.4', binary: envoyBinary('OLDEST_ENVOY_BIN') },
  ];
}
