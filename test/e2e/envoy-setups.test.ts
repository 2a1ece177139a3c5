import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { writeBootstrap } from '../support/bootstrap.js';
import { holdRequest, request } from '../support/clients.js';
import { writeEcosystem } from '../support/ecosystem.js';
import { envoyBinary } from '../support/envoy.js';
import { changeBootstrap, writeScript } from '../support/generation.js';
import { pidsWith, preparePm2, statusOf, type TestPm2, withPm2 } from '../support/pm2.js';
import { freePorts } from '../support/ports.js';
import { eventually, patiently } from '../support/wait.js';

describe('setups that people have', { concurrency: 2 }, () => {
  it('PM2_KILL_SIGNAL=SIGTERM: a restart or reload of the manager drains nothing; SIGTERM from elsewhere does', () =>
    withPm2(
      {},
      async (pm2) => {
        pm2.env['PM2_KILL_SIGNAL'] = 'SIGTERM';
        await pm2.start();
        const ecosystem = writeEcosystem(
          pm2.folder,
          `envoyApps({ cwd: ${JSON.stringify(pm2.folder)} })`,
        );
        for (const command of [
          ['restart', 'envoy-manager'],
          ['reload', 'envoy-manager'],
          ['reload', ecosystem],
          ['reload', 'all'],
        ]) {
          await pm2.pm2(...command);
          await pm2.untilReady();
          assert.equal((await statusOf(pm2)).phase, 'idle', command.join(' '));
        }
        const { stdout } = await pm2.cli('doctor');
        assert.match(stdout, /^0 problems/m);
        assert.doesNotMatch(pm2.log('envoy-manager'), /shutdown: /);
        process.kill(await pm2.pidOf('envoy-manager'), 'SIGTERM');
        await patiently('the drain', async () => (await statusOf(pm2)).outcome === 'drained');
      },
      false,
    ));

  it('logrotate: SIGUSR1 and pm2 reloadLogs reopen Envoy’s logs; no debugger opens', () =>
    withPm2(
      {},
      async (pm2) => {
        const log = join(pm2.folder, 'access.log');
        const bootstrap = join(pm2.folder, 'envoy.yaml');
        const text = readFileSync(bootstrap, 'utf8').replaceAll('/dev/stdout', log);
        writeFileSync(bootstrap, text);
        await pm2.start();
        for (const [at, command] of [
          ['sendSignal', 'SIGUSR1', 'envoy'],
          ['reloadLogs'],
        ].entries()) {
          const moved = `${log}.${at}`;
          renameSync(log, moved);
          await pm2.pm2(...command);
          const reopened = new RegExp(`(has reopened its logs[^]*){${at + 1}}`);
          await eventually('it to be done', () => reopened.test(pm2.log('envoy')));
          assert.equal((await request(pm2.ports.http, `/after-${at}`)).status, 200);
          await eventually('the line in another file', () =>
            readFileSync(log, 'utf8').includes(`/after-${at}`),
          );
          assert.ok(!readFileSync(moved, 'utf8').includes(`/after-${at}`));
        }
        await pm2.pm2('sendSignal', 'SIGUSR1', 'envoy-manager');
        assert.equal((await statusOf(pm2)).phase, 'idle');
        assert.doesNotMatch(pm2.log('envoy') + pm2.log('envoy-manager') + pm2.ownLog(), /Debugger/);
      },
      false,
    ));

  it('a link that is switched: redeploys go on from release to release, and a kill leaves nothing', () =>
    withPm2(
      {},
      async (pm2) => {
        const current = join(pm2.folder, 'current');
        const release = (number: number): string => {
          const folder = join(pm2.folder, `releases/${number}`);
          mkdirSync(folder, { recursive: true });
          writeBootstrap(join(folder, 'envoy.yaml'), pm2.ports, pm2.backend);
          changeBootstrap(join(folder, 'envoy.yaml'), (json) => {
            json['node'] = { id: `release-${number}`, cluster: 'x' };
          });
          rmSync(current, { force: true });
          symlinkSync(folder, current);
          return folder;
        };
        const first = release(1);
        writeSettings(pm2, { 'envoy-config': undefined });
        const env = { PM2_ENVOY_ENVOY_CONFIG: 'envoy.yaml' };
        const ecosystem = writeEcosystem(
          pm2.folder,
          `envoyApps(${JSON.stringify({ cwd: current, env })})`,
        );
        await pm2.pm2('start', ecosystem);
        await pm2.untilReady();
        release(2);
        const redeployed = await pm2.cli('redeploy');
        assert.equal(redeployed.code, 0, redeployed.stderr);
        assert.match(redeployed.stderr, /\+.*release-2/);
        rmSync(first, { recursive: true });
        release(3);
        await pm2.pm2('reload', 'envoy');
        const [generation = assert.fail(), ...others] = pm2.generations();
        assert.deepEqual([generation.number, others], [3, []]);
        assert.match(generation.launch?.bootstrap ?? '', /releases\/3/);
        rmSync(current);
        const lost = await pm2.cli('redeploy');
        assert.match(lost.stderr, /the folder .*current of the pm2 app envoy is gone/);
        assert.equal((await request(pm2.ports.http)).status, 200);
        await pm2.pm2('kill');
        assert.deepEqual(pm2.generations(), []);
      },
      false,
    ));

  it('two Envoys under one pm2, of other names: doctor and redeploy know which is meant', () =>
    withTwo(async (first, second) => {
      for (const one of [first, second]) {
        const { stdout } = await one.cli('doctor');
        assert.match(stdout, /^0 problems/m, stdout);
        const redeployed = await one.cli('redeploy');
        assert.equal(redeployed.code, 0, redeployed.stdout + redeployed.stderr);
      }
      const pids = [first, second].map((one) => one.generations().map(({ number }) => number));
      assert.deepEqual(pids, [[2], [2]]);
      await second.pm2('delete', 'edge', 'edge-manager');
      assert.deepEqual([first.generations().length, second.generations().length], [1, 0]);
      assert.match((await first.cli('doctor')).stdout, /^0 problems/m);
    }));

  it('apps behind Envoy in one ecosystem: they serve until Envoy has drained, and then hear of the stop', () =>
    withPm2(
      { 'check-delay': '2s', 'drain-until': 'requests' },
      async (pm2) => {
        const [fork = 0, cluster = 0] = await freePorts(2);
        const both = [fork, cluster].map((port) => ({
          endpoint: { address: { socket_address: { address: '127.0.0.1', port_value: port } } },
        }));
        changeBootstrap(join(pm2.folder, 'envoy.yaml'), (json) => {
          const { clusters } = json['static_resources'] as { clusters: Cluster[] };
          for (const one of clusters) one.load_assignment.endpoints = [{ lb_endpoints: both }];
        });
        writeFileSync(join(pm2.folder, 'server.mjs'), SERVER);
        const app = (name: string, port: number, more: object = {}): string =>
          `behindEnvoy(${JSON.stringify({ name, script: 'server.mjs', cwd: pm2.folder, env: { PORT: port }, ...more })})`;
        const apps = [
          `...envoyApps(${JSON.stringify({ cwd: pm2.folder })})`,
          app('app-fork', fork, { shutdown_with_message: true }),
          app('app-cluster', cluster, { exec_mode: 'cluster', instances: 1 }),
          `{ name: 'app-alone', script: 'server.mjs', cwd: ${JSON.stringify(pm2.folder)} }`,
        ];
        await pm2.pm2('start', writeEcosystem(pm2.folder, `[${apps.join(', ')}]`));
        await pm2.untilReady();
        const { stdout } = await pm2.cli('doctor');
        assert.match(stdout, /shorter kill_timeout than a drain needs: app-alone \(1\.6s\);/);
        for (const port of [fork, cluster]) {
          await patiently('the app', async () => (await request(port)).status === 200);
        }
        for (const name of ['app-fork', 'app-cluster']) {
          const sinceMs = performance.now();
          await pm2.pm2('restart', name);
          assert.ok(performance.now() - sinceMs < 30_000, `${name} alone is not held for a drain`);
        }
        for (const port of [fork, cluster]) {
          await patiently('the app again', async () => (await request(port)).status === 200);
        }
        const held = await holdRequest(pm2.ports.http);
        const killed = pm2.pm2('kill');
        const statuses: number[] = [];
        // Envoy refuses connections once its listeners are closed.
        for (let isOpen = true; isOpen; ) {
          await request(pm2.ports.http).then(
            ({ status }) => void statuses.push(status),
            () => {
              isOpen = false;
            },
          );
        }
        assert.deepEqual(await held.finish(), { status: 200, body: 'hello' });
        await killed;
        assert.deepEqual(
          statuses.filter((status) => status !== 200),
          [],
        );
        for (const port of [fork, cluster]) {
          assert.equal(readFileSync(join(pm2.folder, `ended-${port}`), 'utf8'), 'by itself');
        }
      },
      false,
    ));

  it('envoy-bin is a script that does not exec: reload, a failed reload and a stop leave no Envoy behind', () =>
    withPm2(
      {},
      async (pm2) => {
        const script = writeScript(
          join(pm2.folder, 'wrapper'),
          `'${envoyBinary()}' "$@"`,
          'exit $?',
        );
        writeSettings(pm2, { 'envoy-bin': script });
        await pm2.start();
        await pm2.pm2('reload', 'envoy');
        const running = (): number =>
          pidsWith(`${pm2.folder}/run/generations/`).filter(isEnvoy).length;
        await patiently('one Envoy', () => running() === 1);
        const bootstrap = join(pm2.folder, 'envoy.yaml');
        const good = readFileSync(bootstrap);
        writeFileSync(bootstrap, 'broken: [');
        await assert.rejects(pm2.pm2('reload', 'envoy'));
        assert.equal(running(), 1);
        // The relay of the one that keeps serving does not depend on what the file says now.
        const relayed = await fetch(`http://127.0.0.1:${pm2.ports.admin}/ready`);
        assert.equal(await relayed.text(), 'LIVE\n');
        writeFileSync(bootstrap, good);
        await pm2.pm2('stop', 'envoy');
        assert.equal(running(), 0);
      },
      false,
    ));

  it('a bootstrap in protobuf’s wire format: it serves, and redeploy does not print it', () =>
    withPm2({}, async (pm2) => {
      const [admin = 0] = await freePorts(1);
      const file = join(pm2.folder, 'envoy.pb');
      writeFileSync(file, adminAt(admin));
      const changed = await pm2.cli('redeploy', '--envoy-config', file, '--yes');
      assert.equal(changed.code, 0, changed.stderr);
      assert.equal(await (await fetch(`http://127.0.0.1:${admin}/ready`)).text(), 'LIVE\n');
      assert.match(changed.stderr, /envoy\.pb: binary, \d+ bytes before, \d+ bytes now/);
      // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what must not come out
      assert.doesNotMatch(changed.stderr, /[\x00-\x08\x0e-\x1a]/);
    }));
});

interface Cluster {
  load_assignment: { endpoints: unknown[] };
}

/** A server that ends by itself when it hears of a stop, and says so. */
const SERVER = `
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
const server = createServer((request, answer) => {
  request.resume().once('end', () => answer.end('hello'));
});
server.listen(Number(process.env.PORT ?? 0), '127.0.0.1');
const end = () => {
  writeFileSync('ended-' + process.env.PORT, 'by itself');
  process.exit(0);
};
process.on('SIGINT', end);
process.on('message', (message) => message === 'shutdown' && end());
`;

function writeSettings(pm2: TestPm2, more: Record<string, unknown>): void {
  Object.assign(pm2.settings, more);
  writeFileSync(join(pm2.folder, 'pm2-envoy.json'), JSON.stringify(pm2.settings));
}

/** The wrapper itself is a shell. */
function isEnvoy(pid: number): boolean {
  try {
    return !readFileSync(`/proc/${pid}/comm`, 'utf8').startsWith('wrapper');
  } catch {
    return false;
  }
}

/** Bootstrap.admin.address.socket_address. */
function adminAt(port: number): Buffer {
  const low = (port & 0x7f) | 0x80;
  const varint = port < 0x4000 ? [low, port >> 7] : [low, ((port >> 7) & 0x7f) | 0x80, port >> 14];
  const socket = Buffer.concat([
    Buffer.from([0x12, 9]),
    Buffer.from('127.0.0.1'),
    Buffer.from([0x18, ...varint]),
  ]);
  const inField = (tag: number, content: Buffer): Buffer =>
    Buffer.concat([Buffer.from([tag, content.length]), content]);
  return inField(0x62, inField(0x1a, inField(0x0a, socket)));
}

function appsOf(pm2: TestPm2, name?: string): string {
  const env = { PM2_ENVOY_CONFIG: join(pm2.folder, 'pm2-envoy.json') };
  return `envoyApps(${JSON.stringify({ name, cwd: pm2.folder, env })})`;
}

/** Two Envoys, each with a run directory and a manager of its own, under the first one's pm2. */
async function withTwo(use: (first: TestPm2, second: TestPm2) => Promise<void>): Promise<void> {
  const first = await preparePm2();
  const second = await preparePm2();
  second.env['PM2_HOME'] = first.env['PM2_HOME'];
  try {
    await first.pm2('start', writeEcosystem(first.folder, appsOf(first)));
    await first.untilReady();
    await second.pm2('start', writeEcosystem(second.folder, appsOf(second, 'edge')));
    await second.untilReady();
    await use(first, second);
  } finally {
    await second.stop();
    await first.stop();
  }
}
