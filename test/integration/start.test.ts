import assert from 'node:assert/strict';
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { systemClock } from '../../src/clock.js';
import type { Config } from '../../src/config/config.js';
import { loadConfig } from '../../src/config/load.js';
import { type CheckedLaunch, checkLaunch } from '../../src/envoy/launch.js';
import { terminateEnvoy } from '../../src/envoy/process.js';
import { type ErrorCode, isPm2EnvoyError } from '../../src/errors.js';
import { bootstrapCopyOf, type Generations, openGenerations } from '../../src/host/generations.js';
import { isAlive } from '../../src/host/process-identity.js';
import { silentLog } from '../../src/log.js';
import { type RunningGeneration, startGeneration } from '../../src/runner/start.js';
import { startBackend } from '../support/backend.js';
import { writeBootstrap } from '../support/bootstrap.js';
import { holdTcp, request } from '../support/clients.js';
import { envoyBinary } from '../support/envoy.js';
import { makeFolder } from '../support/folder.js';
import { pidsWith } from '../support/pm2.js';
import { freePorts } from '../support/ports.js';
import { eventually } from '../support/wait.js';

/** A cluster whose endpoints no one names, for no one listens: Envoy goes on initialising for good. */
const NEVER_LIVE = [
  {
    name: 'nobody',
    type: 'STATIC',
    load_assignment: {
      cluster_name: 'nobody',
      endpoints: [
        {
          lb_endpoints: [
            {
              endpoint: { address: { socket_address: { address: '127.0.0.1', port_value: 1 } } },
            },
          ],
        },
      ],
    },
  },
  {
    name: 'never',
    type: 'EDS',
    eds_cluster_config: {
      eds_config: {
        initial_fetch_timeout: '0s',
        resource_api_version: 'V3',
        api_config_source: {
          api_type: 'REST',
          transport_api_version: 'V3',
          cluster_names: ['nobody'],
          refresh_delay: '60s',
        },
      },
    },
  },
];

describe('startGeneration', { concurrency: 3 }, () => {
  it('writes down a LIVE Envoy: version, what it was started with, a copy of its bootstrap', () =>
    withStage(async ({ start, config, port, generations }) => {
      const { generation, envoy } = await start(envoyBinary(), 30_000);
      assert.equal((await request(port)).status, 200);
      const [found = assert.fail()] = generations.live();
      assert.deepEqual(found, JSON.parse(JSON.stringify(generation)));
      assert.deepEqual([found.ready, found.version], [true, '1.40.0']);
      assert.deepEqual(found.launch, {
        binary: envoyBinary(),
        bootstrap: config.envoyConfig,
        args: config.envoyArgs,
        drainTimeMs: config.envoyDrainTimeMs,
      });
      const copy = readFileSync(bootstrapCopyOf(found), 'utf8');
      assert.equal(copy, readFileSync(config.envoyConfig, 'utf8'));
      assert.equal(await terminateEnvoy(envoy.identity), true);
    }));

  it('gives up an Envoy that goes on initialising, says so, and leaves none', () =>
    withStage(
      async ({ start, folder }) => {
        await rejects(start(envoyBinary(), 5_000), {
          code: 'envoy-start-failed',
          says: /^Envoy was not LIVE within 5s: it waits for its configuration or its first health checks \(its state is PRE_INITIALIZING\); its log says: REST update for \/v3\/discovery:endpoints failed$/,
        });
        await eventually('no Envoy to be left', () => pidsWith(folder).length === 0);
      },
      ({ clusters }) => clusters.push(...NEVER_LIVE),
      'warning',
    ));

  for (const [what, command, processes] of [
    ['one', 'exec ', 1],
    ['one behind a wrapper', '', 2],
  ] as const) {
    it(`has the kernel end ${what} first when memory runs out, from its birth until it is LIVE`, () =>
      withStage(async ({ start, folder }) => {
        const score = (pid: number | 'self'): string =>
          readFileSync(`/proc/${pid}/oom_score_adj`, 'utf8').trim();
        const own = score('self');
        const scores = join(folder, 'scores');
        const binary = join(folder, 'wrapper');
        const script = `#!/bin/sh\ncat /proc/self/oom_score_adj >>'${scores}'\n${command}'${envoyBinary()}' "$@"\n`;
        writeFileSync(binary, script);
        chmodSync(binary, 0o755);
        await start(binary, 30_000);
        // The check of the bootstrap is one as well.
        const atBirth = readFileSync(scores, 'utf8').trim().split('\n');
        assert.ok(atBirth.length > 1);
        assert.deepEqual(new Set(atBirth), new Set(['1000']));
        const pids = pidsWith(folder);
        assert.equal(pids.length, processes);
        assert.deepEqual(
          pids.map(score),
          pids.map(() => own),
        );
        assert.equal(score('self'), own);
      }));
  }

  for (const { what, instead, limitMs, code, says } of [
    {
      what: 'never answers',
      instead: 'exec sleep 600',
      limitMs: 500,
      code: 'envoy-start-failed',
      says: /^Envoy was not LIVE within 500ms: its admin interface did not answer$/,
    },
    {
      what: 'crashes at its start',
      // Before its generation is written down, another message says so.
      instead:
        'until [ -e "$(dirname "$0")/generations/1/generation.json" ]; do sleep 0.1; done; exit 3',
      limitMs: 30_000,
      code: 'envoy-start-failed',
      says: /^Envoy exited with code 3 before it was LIVE: its own log says why$/,
    },
  ] as const) {
    it(`gives up one that ${what}, and leaves none`, () =>
      withStage(async ({ start, folder, generations }) => {
        const binary = join(folder, 'other-envoy');
        const script = `#!/bin/sh\ncase "$*" in *--version*|*validate*) exec '${envoyBinary()}' "$@" ;; esac\n${instead}\n`;
        writeFileSync(binary, script);
        chmodSync(binary, 0o755);
        await rejects(start(binary, limitMs), { code, says });
        assert.deepEqual(generations.live(), []);
      }));
  }

  for (const [what, isFullAt] of [
    ['it has started', 1],
    ['is LIVE', 2],
  ] as const) {
    it(`leaves no Envoy when the disk is full once ${what}`, () =>
      withStage(async ({ config, generations, folder }) => {
        let written = 0;
        const full: Generations = {
          ...generations,
          write: (generation) => {
            written += 1;
            if (written >= isFullAt) throw new Error('ENOSPC: no space left on device, write');
            generations.write(generation);
          },
        };
        const options = { binary: envoyBinary(), config, generations: full, liveLimitMs: 30_000 };
        await rejects(
          startGeneration({ ...options, log: silentLog }, new AbortController().signal),
          {
            code: 'envoy-start-failed',
            says: /^generation 1 can't be recorded \(ENOSPC: .*\), so its Envoy is not kept/,
          },
        );
        await eventually('no Envoy to be left', () => pidsWith(folder).length === 0);
      }));
  }

  it('gives up when it is told to, and leaves no Envoy', () =>
    withStage(
      async ({ start, generations, stop }) => {
        const starting = rejects(start(envoyBinary(), 30_000), {
          code: 'envoy-start-failed',
          says: /^stopped before Envoy was LIVE$/,
        });
        const { envoy } = await eventually('Envoy', () => generations.live()[0]);
        stop();
        await starting;
        assert.equal(isAlive(envoy), false);
      },
      ({ clusters }) => clusters.push(...NEVER_LIVE),
    ));

  it('leaves one to be drained that has accepted a connection before anyone has seen it LIVE', () =>
    withStage(async ({ config, generations, tcp }) => {
      const stopping = new AbortController();
      // A look takes until the test has its connection.
      let look = (): void => undefined;
      const looked = new Promise<void>((done) => {
        look = done;
      });
      const clock = { nowMs: systemClock.nowMs, sleep: () => looked };
      const options = { binary: envoyBinary(), config, generations, liveLimitMs: 60_000 };
      const starting = startGeneration({ ...options, log: silentLog, clock }, stopping.signal);
      const held = await eventually('a connection', () => holdTcp(tcp), 60_000);
      stopping.abort();
      look();
      const { generation, envoy } = await starting;
      assert.equal(generation.ready, true);
      await held.echo('still here');
      held.close();
      assert.equal(await terminateEnvoy(envoy.identity), true);
    }));
});

describe('checkLaunch', () => {
  it('has Envoy look for the files of a bootstrap in the folder of the app that asks', () =>
    withStage(
      async ({ config, folder }) => {
        const checked = (cwd: string): Promise<CheckedLaunch> =>
          checkLaunch(config, folder, { cwd });
        writeFileSync(join(folder, 'body.txt'), 'hello');
        const valid = { binary: envoyBinary(), check: { kind: 'valid' } };
        assert.deepEqual(await checked(folder), valid);
        await rejects(checked('/'), {
          code: 'bootstrap-invalid',
          says: /body\.txt does not exist/,
        });
      },
      ({ listeners }) => {
        const [filter] = listeners[0]?.filter_chains[0]?.filters ?? [];
        filter?.typed_config.route_config?.virtual_hosts[0]?.routes.unshift({
          match: { path: '/file' },
          direct_response: { status: 200, body: { filename: 'body.txt' } },
        });
      },
    ));
});

/** The parts of a test's bootstrap that these tests change. */
interface Resources {
  clusters: unknown[];
  listeners: {
    filter_chains: {
      filters: {
        typed_config: { route_config?: { virtual_hosts: { routes: unknown[] }[] } };
      }[];
    }[];
  }[];
}

interface Stage {
  config: Config;
  folder: string;
  generations: Generations;
  /** The HTTP and the TCP port of the bootstrap. */
  port: number;
  tcp: number;
  start(binary: string, liveLimitMs: number): Promise<RunningGeneration>;
  stop(): void;
}

/** A run directory and a bootstrap of the test's own; whatever it starts is ended. */
async function withStage(
  use: (stage: Stage) => Promise<void>,
  change: (resources: Resources) => void = () => undefined,
  logLevel = 'critical',
): Promise<void> {
  const { path: folder, remove } = makeFolder();
  const backend = await startBackend();
  const [http = 0, tcp = 0] = await freePorts(2);
  const bootstrap = join(folder, 'envoy.yaml');
  writeBootstrap(bootstrap, { http, tcp }, backend);
  const json: { static_resources: Resources } = JSON.parse(readFileSync(bootstrap, 'utf8'));
  change(json.static_resources);
  writeFileSync(bootstrap, JSON.stringify(json));
  const generations = openGenerations(folder);
  const flags = { 'envoy-bin': envoyBinary(), 'envoy-config': bootstrap };
  // A management server, which NEVER_LIVE has, wants to know who asks.
  const args = `-l ${logLevel} --concurrency 1 --service-node test --service-cluster test`.split(
    ' ',
  );
  const { config } = loadConfig({
    env: {},
    flags: { ...flags, 'envoy-args': JSON.stringify(args) },
  });
  const stopping = new AbortController();
  try {
    await use({
      ...{ config, folder, generations, port: http, tcp, stop: () => stopping.abort() },
      start: (binary, liveLimitMs) =>
        startGeneration(
          { binary, config, generations, liveLimitMs, log: silentLog },
          stopping.signal,
        ),
    });
  } finally {
    for (const { envoy } of generations.live()) await terminateEnvoy(envoy);
    await backend.close();
    remove();
  }
}

async function rejects(
  call: Promise<unknown>,
  { code, says }: { code: ErrorCode; says: RegExp },
): Promise<void> {
  await assert.rejects(call, (error: unknown) => {
    assert.ok(isPm2EnvoyError(error, code), String(error));
    assert.match(error.message, says);
    return true;
  });
}
