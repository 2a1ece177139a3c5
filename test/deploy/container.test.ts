import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import {
  type Edge,
  edgeImage,
  PORTS,
  processesOf,
  startEdge,
  withEdge,
  writeEdgeBootstrap,
} from '../support/edge.js';
import { podman } from '../support/podman.js';
import { describeTraffic, type Traffic, type TrafficOptions } from '../support/traffic.js';
import { eventually, patiently } from '../support/wait.js';

const ROOT = resolve(import.meta.dirname, '../..');
const PROGRAM = '/opt/pm2-envoy';
const CONTENTS = [
  'LICENSE',
  'assets',
  'bin',
  'config',
  'dist',
  'ecosystem.config.js',
  'healthcheck.js',
  'node_modules',
  'package.json',
];
/** A delay in which a busy machine has led all clients elsewhere. */
const SHORT = { PM2_ENVOY_CHECK_DELAY: '5s', PM2_ENVOY_DRAIN_TIMEOUT: '30s' };
const RUNNER = /apps\/runner\.js/;
const MANAGER = /apps\/manager\.js/;
const ENVOY = /^\/usr\/local\/bin\/envoy/;

describe('the image', { concurrency: 2 }, () => {
  it('serves as it is, as any user', () =>
    withEdge({ plain: true, args: ['--user=12345:12345'] }, async ({ pod, exec }) => {
      const [answer] = pod.ask([{ port: PORTS.http }]);
      assert.equal(answer?.body, 'Envoy serves, pm2-envoy watches over it.\n');
      assert.match(await exec('pm2-envoy', 'status'), /^phase +idle\nenvoy +1\.40\.0 LIVE/);
    }));

  it('has nothing that it was made with', () =>
    withEdge({}, async ({ exec }) => {
      const tools = [
        'npm',
        'npx',
        'yarn',
        'corepack',
        'cc',
        'gcc',
        'g++',
        'make',
        'python3',
        'git',
      ];
      assert.equal(await exec('sh', '-c', `command -v ${tools.join(' ')} || true`), '');
      const leftovers = ['.npm', '*.map', '*.ts', 'test', 'package-lock.json', 'node-gyp'];
      const names = leftovers.flatMap((name) => ['-o', '-name', name]).slice(1);
      // It ends with 1: a folder or two is not for this user.
      const find = ['sh', '-c', 'find "$@" 2>/dev/null || true', 'find'];
      const places = [PROGRAM, '/root', '/home', '/tmp', '/var/cache/apt/archives'];
      assert.equal(await exec(...find, ...places, '(', ...names, ')'), '');
      assert.equal(await exec('ls', PROGRAM), CONTENTS.join('\n'));
      assert.equal(await exec('ls', '/var/lib/apt/lists'), '');
    }));

  it('has the packages that package-lock.json names for production, and no other', async () => {
    const { packages } = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8'));
    const isDev = (path: string): boolean => packages[path].dev || packages[path].devOptional;
    const find = ['find', `${PROGRAM}/node_modules`, '-name', 'package.json'];
    const files = await podman('run', '--rm', '--network=none', await edgeImage(), ...find);
    const installed = new Set(
      files.split('\n').map((file) => file.slice(PROGRAM.length + 1, -'/package.json'.length)),
    );
    const paths = Object.keys(packages).filter((path) => path !== '');
    const wanted = paths.filter((path) => !isDev(path) && !packages[path].optional);
    assert.deepEqual(
      paths.filter((path) => isDev(path) && installed.has(path)),
      [],
    );
    assert.deepEqual(
      wanted.filter((path) => !installed.has(path)),
      [],
    );
  });

  it('has the certificates of Debian where bootstraps look for them', async () => {
    const cat = ['cat', '/etc/ssl/certs/ca-certificates.crt'];
    const file = await podman('run', '--rm', '--network=none', await edgeImage(), ...cat);
    assert.ok(file.split('BEGIN CERTIFICATE').length > 100);
  });

  it('says how it is run', async () => {
    const [{ Config: config }] = JSON.parse(await podman('inspect', await edgeImage()));
    assert.equal(config.User, '1000:1000');
    assert.deepEqual(Object.keys(config.ExposedPorts).sort(), ['10000/tcp', '8090/tcp']);
    assert.equal(config.Labels['org.opencontainers.image.licenses'], 'Apache-2.0');
    assert.equal(config.StopSignal ?? 'SIGTERM', 'SIGTERM');
  });
});

describe('a container', { concurrency: 2 }, () => {
  it('runs as 1000, without a capability, from a root that can’t be written', () =>
    withEdge({}, async (edge) => {
      const processes = await processesOf(edge);
      assert.ok(processes.length >= 5, 'tini, pm2-runtime, two apps and Envoy');
      for (const { pid, command } of processes) {
        const status = await edge.exec('cat', `/proc/${pid}/status`);
        assert.match(status, /^Uid:\t1000\t1000\t1000\t1000$/m, command);
        assert.match(status, /^CapEff:\t0+$/m, command);
        assert.match(status, /^NoNewPrivs:\t1$/m, command);
      }
      await assert.rejects(edge.exec('touch', '/etc/pm2-envoy/x'), /Read-only file system/);
      await assert.rejects(edge.exec('touch', '/var/tmp/x'), /Read-only file system/);
      assert.equal(await edge.exec('ls', '/tmp/pm2/logs'), '', 'pm2 keeps no log files');
    }));

  it('that is stopped with requests in flight cuts none, and ends with 0', (t) =>
    withEdge({ env: SHORT }, async (edge) => {
      const traffic = await edge.startTraffic();
      await traffic.hold();
      const stopping = podman('stop', '--time', '50', edge.name);
      await eventually('the drain', async () => !(await edge.isReady()));
      await edge.moveAway(traffic);
      await traffic.echo();
      await traffic.letGo();
      await stopping;
      await assertNothingLost(t, traffic);
      assert.equal(await edge.exitCode(), 0);
    }));

  it('with a setting that is refused ends with 78, and says what is wrong', async () => {
    const run = ['run', '--rm', '--network=none', '--env=PM2_ENVOY_CHECK_DELAY=5'];
    await assert.rejects(podman(...run, await edgeImage()), {
      code: 78,
      stderr: /check-delay: "5" \(from PM2_ENVOY_CHECK_DELAY\) must be a duration/,
    });
  });

  it('whose Envoy is killed has another one, and no zombie', () =>
    withEdge({}, async (edge) => {
      const before = await edge.pidOf(ENVOY);
      await kill(edge, before);
      await eventually('another Envoy', async () => (await edge.pidOf(ENVOY)) !== before);
      await eventually('it to be ready', edge.isReady);
      await assertNoZombie(edge);
    }));

  it('whose manager is killed has another one, and loses nothing', (t) =>
    underLoad(t, {}, async (edge) => {
      const before = await edge.pidOf(MANAGER);
      await kill(edge, before);
      await eventually('another manager', async () => (await edge.pidOf(MANAGER)) !== before);
      await eventually('it to answer', edge.isReady);
      await assertNoZombie(edge);
    }));

  it('whose runner is killed takes over from its Envoy, loses nothing and has no zombie', (t) =>
    underLoad(t, {}, async (edge, traffic) => {
      const [runner, envoy] = [await edge.pidOf(RUNNER), await edge.pidOf(ENVOY)];
      await kill(edge, runner);
      await eventually('another Envoy', async () => (await envoysOf(edge)).length === 2);
      await traffic.echo();
      await traffic.letGo();
      await eventually('the first one to end', async () => {
        const pids = await envoysOf(edge);
        return pids.length === 1 && pids[0] !== envoy;
      });
      await assertNoZombie(edge);
    }));

  it('takes over a changed bootstrap that is mounted, and loses nothing', (t) => {
    const options = { bodies: ['hello', 'hello again'] };
    return underLoad(t, options, async (edge, traffic) => {
      writeEdgeBootstrap(edge.folder, edge.backend, '/again');
      const redeploying = edge.exec('pm2-envoy', 'redeploy');
      await eventually('the new one', async () => (await envoysOf(edge)).length === 2);
      await traffic.echo();
      await traffic.letGo();
      assert.match(await redeploying, /generation 2/);
      const [answer] = edge.pod.ask([{ port: PORTS.http }]);
      assert.equal(answer?.body, 'hello again');
    });
  });
});

describe('the HEALTHCHECK', { concurrency: 2 }, () => {
  it('is healthy while the manager answers, wherever that serves', () =>
    withContainer({ PM2_ENVOY_SERVE_PORT: '9090' }, async (edge) => {
      await eventually('it to be healthy', () => isHealthy(edge));
      const manager = await edge.pidOf(MANAGER);
      await edge.exec('sh', '-c', `kill -STOP ${manager}`);
      assert.equal(await isHealthy(edge), false);
      await edge.exec('sh', '-c', `kill -CONT ${manager}`);
      await eventually('it to be healthy again', () => isHealthy(edge));
    }));

  it('is unhealthy once Envoy has been gone for envoy-lost-after', () => {
    const env = {
      PM2_ENVOY_ENVOY_CONFIG: '/etc/pm2-envoy/there-is-none.yaml',
      PM2_ENVOY_ENVOY_LOST_AFTER: '2s',
    };
    return withContainer(env, async (edge) => {
      await patiently('Envoy to count as lost', async () => {
        const { status } = await edge.pod.call({ port: PORTS.serve, path: '/healthz' });
        return status === 503;
      });
      assert.equal(await isHealthy(edge), false);
    });
  });
});

/** A container that need not be ready, nor become it. */
async function withContainer(
  env: Readonly<Record<string, string>>,
  use: (edge: Edge) => Promise<void>,
): Promise<void> {
  const edge = await startEdge({ env });
  try {
    await use(edge);
  } finally {
    await edge.stop();
  }
}

/** Runs `use` under load with a TCP connection and a WebSocket held; fails when something was lost. */
async function underLoad(
  t: TestContext,
  options: Partial<TrafficOptions>,
  use: (edge: Edge, traffic: Traffic) => Promise<void>,
): Promise<void> {
  await withEdge({}, async (edge) => {
    // The container may not: /proc/sys is read-only there.
    edge.pod.run('sh', '-c', 'echo 1 >/proc/sys/net/ipv4/tcp_migrate_req');
    const traffic = await edge.startTraffic(options);
    await traffic.hold();
    await use(edge, traffic);
    await assertNothingLost(t, traffic);
  });
}

async function assertNothingLost(t: TestContext, traffic: Traffic): Promise<void> {
  const report = await traffic.stop();
  t.diagnostic(describeTraffic(report));
  assert.equal(report.lost, 0, describeTraffic(report));
  assert.ok(report.kinds.slow.requests > 0, 'there were slow requests');
}

async function assertNoZombie(edge: Edge): Promise<void> {
  await eventually('no zombie', async () =>
    (await processesOf(edge)).every(({ state }) => state !== 'Z'),
  );
}

async function envoysOf(edge: Edge): Promise<number[]> {
  const all = await processesOf(edge);
  return all.filter(({ command }) => ENVOY.test(command)).map(({ pid }) => pid);
}

async function kill(edge: Edge, pid: number): Promise<void> {
  await edge.exec('sh', '-c', `kill -9 ${pid}`);
}

/** What Docker would find out by itself each 30 s. */
function isHealthy({ name }: Edge): Promise<boolean> {
  return podman('healthcheck', 'run', name).then(
    () => true,
    () => false,
  );
}
