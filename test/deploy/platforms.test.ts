import assert from 'node:assert/strict';
import { chmodSync, cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { startBackendProcess } from '../support/backend.js';
import { edgeImage, PORTS, withEdge, writeEdgeBootstrap } from '../support/edge.js';
import { startElsewhere } from '../support/elsewhere.js';
import { makeFolder } from '../support/folder.js';
import { makeHosts, type TestHost } from '../support/hosts.js';
import {
  compose,
  containerOf,
  environmentOf,
  quadletUnit,
  type Stop,
  stopBy,
} from '../support/platform.js';
import { podman, removeContainers } from '../support/podman.js';
import { describeTraffic, startTraffic, type Traffic } from '../support/traffic.js';
import { eventually, letPass } from '../support/wait.js';

const DEPLOY = resolve(import.meta.dirname, '../../deploy');
/** Requests of 6 s beside all the others. */
const LOAD = { slowPerSecond: 1, slowMs: 6_000 };

/**
 * What the platforms do in their order, each with the settings of its file. `before`: its load balancer knows this long
 * before the signal. The sources of the orders are on docs/platforms.md.
 */
const PLAYED = [
  // Deregistered first; the task is stopped when its connections have ended, or after the deregistration delay.
  { name: 'Amazon ECS', file: 'ecs/task-definition.json', signal: 'SIGTERM', beforeMs: 1_000 },
  { name: 'Cloud Run', file: 'cloud-run/service.yaml', signal: 'SIGTERM', beforeMs: 0 },
  { name: 'Container Apps', file: 'azure/containerapp.yaml', signal: 'SIGTERM', beforeMs: -500 },
  // shutdown_delay is between the two; a part of it does here.
  { name: 'Nomad', file: 'nomad/pm2-envoy.nomad.hcl', signal: 'SIGTERM', beforeMs: 1_000 },
  { name: 'Fly.io', file: 'fly/fly.toml', signal: 'SIGTERM', beforeMs: -500 },
] as const;

describe('a container that a platform stops under load', { concurrency: 3 }, () => {
  for (const { name, file, signal, beforeMs } of PLAYED) {
    it(`loses nothing on ${name}`, async (t) => {
      const container = await containerOf(file);
      await withEdge({ env: environmentOf(container) }, async (edge) => {
        const traffic = await edge.startTraffic(LOAD);
        await traffic.hold();
        if (beforeMs >= 0) {
          await edge.moveAway(traffic);
          await letPass(beforeMs);
        }
        const stopping = stopBy(edge, { signal, graceMs: container.gracePeriodMs ?? 0 });
        if (beforeMs < 0) {
          await letPass(-beforeMs);
          await edge.moveAway(traffic);
        }
        await eventually('the drain', async () => /shutdown: delay/.test(await edge.logs()));
        await traffic.echo();
        await traffic.letGo();
        const stop = await stopping;
        await assertNothingLost(t, traffic, stop);
        assertEndedByItself(stop);
        assert.match(await edge.logs(), /shutdown ended: drained/);
      });
    });
  }

  it('does what can be done in the 10 s of Docker, and says what it cuts', (t) =>
    withEdge({ env: { PM2_ENVOY_GRACE_PERIOD: '10s' } }, async (edge) => {
      const traffic = await edge.startTraffic(NOTHING_ELSE);
      await traffic.hold();
      assert.match(
        await edge.exec('pm2-envoy', 'status'),
        /2\.5s listeners close \| 7\.5s cut .* \| 10s SIGKILL/,
      );
      // As Fly.io begins.
      const stop = await stopBy(edge, { signal: 'SIGINT', graceMs: 10_000 });
      const log = await edge.logs();
      await traffic.echo();
      const report = await traffic.stop();
      t.diagnostic(`${describeTraffic(report)}; ${JSON.stringify(stop)}`);
      assert.equal(report.lost, 2, 'the TCP connection and the WebSocket');
      assert.match(
        log,
        /shutdown: close.*shutdown ended: timeout after 7\d{3} ms, connections left: 2/s,
      );
      assertEndedByItself(stop);
    }));
});

/** Before SIGKILL, which makes 137. */
function assertEndedByItself({ exitCode }: Stop): void {
  assert.equal(exitCode, 0);
}

const NOTHING_ELSE = { keepAlive: 0, newPerSecond: 0, sessions: 0, slowPerSecond: 0 };

describe('compose.yaml', () => {
  it('serves, and drains when it is stopped', () =>
    withProject('compose.yaml', async ({ host, up, run, container }) => {
      await up();
      await eventually('port 80 to answer', () => answers(host, 80));
      const edge = container('edge');
      await run('stop');
      const log = await podman('logs', edge);
      assert.match(log, /shutdown ended: drained after \d+ ms, connections left: 0/);
      assert.equal(await podman('inspect', '--format={{.State.ExitCode}}', edge), '0');
    }));
});

describe('host-network.yaml', () => {
  it('takes over another bootstrap, and is stopped, and loses nothing under load', (t) =>
    withProject('host-network.yaml', async ({ host, folder, up, run, container }) => {
      const backend = await startBackendProcess(host.within);
      const edgeFolder = join(folder, 'edge');
      mkdirSync(edgeFolder);
      writeEdgeBootstrap(edgeFolder, backend);
      host.run('sh', '-c', 'echo 1 >/proc/sys/net/ipv4/tcp_migrate_req');
      const elsewhere = await startElsewhere(host, backend);
      try {
        await up();
        await eventually('the host to serve', () => answers(host, PORTS.http));
        const { http, tcp } = PORTS;
        const load = { ...LIGHT, ...LOAD, bodies: ['hello', 'hello again'] };
        const traffic = await startTraffic({ http, tcp }, load, host.within);
        await traffic.hold();
        writeEdgeBootstrap(edgeFolder, backend, '/again');
        const edge = container('edge');
        const redeploying = podman('exec', edge, 'pm2-envoy', 'redeploy');
        await eventually('the new one', async () => {
          const [answer] = host.ask([{ port: http }]);
          return answer?.body === 'hello again';
        });
        await traffic.echo();
        await traffic.letGo();
        t.diagnostic((await redeploying).split('\n').at(-1) ?? '');

        await traffic.hold();
        await traffic.moveTo(elsewhere.ports);
        const stopping = run('stop');
        await eventually('the drain', async () =>
          /shutdown: fail-health/.test(await podman('logs', edge)),
        );
        await traffic.echo();
        await traffic.letGo();
        await stopping;
        await assertNothingLost(t, traffic);
        const code = await podman('inspect', '--format={{.State.ExitCode}}', edge);
        assert.equal(code, '0');
      } finally {
        await elsewhere.stop();
        await backend.close();
      }
    }));
});

describe('front.yaml', () => {
  it('has its containers replaced one after the other, and loses nothing under load', (t) =>
    withProject('front.yaml', async ({ host, folder, up, run, container }) => {
      cpSync(join(DEPLOY, 'compose/front'), join(folder, 'front'), { recursive: true });
      await up();
      await eventually('port 80 to answer', () => answers(host, 80));
      const [{ body = '' } = {}] = host.ask([{ port: 80 }]);
      const load = { ...LIGHT, sessions: 0, slowPerSecond: 0, bodies: [body] };
      const untilKnown = async (name: string): Promise<void> => {
        await eventually(`${name} to be ready`, () => isReady(container(name)));
        // Until the proxy has heard it.
        await letPass(2_500);
      };
      // The one that answered may be alone as yet.
      for (const name of ['edge-1', 'edge-2']) await untilKnown(name);
      const traffic = await startTraffic({ http: 80, tcp: 80 }, load, host.within);
      for (const name of ['edge-1', 'edge-2']) {
        await run('up', '--detach', '--no-deps', '--force-recreate', name);
        await untilKnown(name);
      }
      await assertNothingLost(t, traffic);
    }));
});

describe('pm2-envoy.container', () => {
  // `--cgroups=split` needs cgroup v2, which CI may not have: systemd's part is played, with what Quadlet writes.
  it('is a unit that loses nothing when it is stopped, however long Podman would wait by itself', async (t) => {
    const unit = await quadletUnit(join(DEPLOY, 'quadlet/pm2-envoy.container'));
    assert.match(unit, /^TimeoutStopSec=135$/m);
    const folder = makeFolder();
    const cid = join(folder.path, 'pm2-envoy.cid');
    const words = (key: string): string[] =>
      (new RegExp(`^${key}=/usr/bin/podman (.*)$`, 'm').exec(unit)?.[1] ?? '')
        .replaceAll('%t/%N.cid', cid)
        .split(' ');
    const hosts = await makeHosts();
    const backend = await startBackendProcess(hosts.ours.within);
    const elsewhere = await startElsewhere(hosts.ours, backend);
    chmodSync(folder.path, 0o755);
    writeEdgeBootstrap(folder.path, backend);
    const image = await edgeImage();
    const run = words('ExecStart')
      .filter((word) => !/^--(cgroups|sdnotify|publish|sysctl|rm|replace|name)\b/.test(word))
      .filter((word) => !['pm2-envoy', '80:10000', 'net.ipv4.tcp_migrate_req=1'].includes(word));
    const name = `pm2-envoy-test-${basename(folder.path)}`;
    const more = [
      `--volume=${folder.path}:/etc/pm2-envoy:ro`,
      `--network=ns:${hosts.ours.namespace}`,
      `--name=${name}`,
    ];
    try {
      await podman(...run.slice(0, -1), ...more, image);
      await eventually('it to serve', () => answers(hosts.ours, PORTS.http));
      const { http, tcp } = PORTS;
      const traffic = await startTraffic({ http, tcp }, { ...LIGHT, ...LOAD }, hosts.ours.within);
      await traffic.hold();
      await traffic.moveTo(elsewhere.ports);
      const logs = podman('logs', '--follow', name);
      const stopping = podman(...words('ExecStop').filter((word) => word !== '-v'));
      // Podman's own 10 s are over then.
      await letPass(11_000);
      await traffic.echo();
      await traffic.letGo();
      await stopping;
      await assertNothingLost(t, traffic);
      assert.match(await logs, /shutdown ended: drained after 1\d{4} ms, connections left: 0/);
    } finally {
      await removeContainers(name);
      await elsewhere.stop();
      await backend.close();
      await hosts.stop();
      folder.remove();
    }
  });
});

/** As much of each as two cores have time for beside the containers. */
const LIGHT = { keepAlive: 4, newPerSecond: 50, sessions: 1, streams: 2 };

interface Project {
  host: TestHost;
  /** Where the files are. */
  folder: string;
  up(): Promise<void>;
  run(...args: readonly string[]): Promise<string>;
  /** The name of a service's container. */
  container(service: string): string;
}

/** Runs a file of deploy/compose with the image's name changed, on a host of the test's own. */
async function withProject(file: string, use: (project: Project) => Promise<void>): Promise<void> {
  const image = await edgeImage();
  const folder = makeFolder();
  const hosts = await makeHosts();
  const project = `pm2-envoy-test-${basename(folder.path).toLowerCase()}`;
  const at = { within: hosts.ours.within, folder: folder.path, project };
  const text = readFileSync(join(DEPLOY, 'compose', file), 'utf8');
  writeFileSync(join(folder.path, file), text.replaceAll('image: pm2-envoy', `image: ${image}`));
  const run = (...args: readonly string[]): Promise<string> => compose(at, file, ...args);
  const container = (service: string): string => `${project}_${service}_1`;
  try {
    await use({
      host: hosts.ours,
      folder: folder.path,
      run,
      up: async () => void (await run('up', '--detach')),
      container,
    });
  } catch (error) {
    console.error(await run('logs').catch(String));
    throw error;
  } finally {
    const names = text.match(/^ {2}[\w-]+(?=:$)/gm) ?? [];
    await removeContainers(...names.map((name) => container(name.trim())));
    await run('down').catch((error: unknown) => console.error(String(error)));
    await hosts.stop();
    folder.remove();
  }
}

async function answers(host: TestHost, port: number): Promise<boolean> {
  return (await host.call({ port })).status === 200;
}

function isReady(name: string): Promise<boolean> {
  return podman('healthcheck', 'run', name)
    .then(() => podman('exec', name, 'pm2-envoy', 'status'))
    .then(
      (status) => status.includes('LIVE'),
      () => false,
    );
}

async function assertNothingLost(t: TestContext, traffic: Traffic, stop?: Stop): Promise<void> {
  const report = await traffic.stop();
  t.diagnostic(`${describeTraffic(report)}${stop ? `; ${JSON.stringify(stop)}` : ''}`);
  assert.equal(report.lost, 0, describeTraffic(report));
}
