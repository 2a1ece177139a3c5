import { execFile } from 'node:child_process';
import { chmodSync, copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { type Backend, startBackendProcess } from './backend.js';
import { type Elsewhere, startElsewhere, twoListeners } from './elsewhere.js';
import { envoyBinary } from './envoy.js';
import { makeFolder } from './folder.js';
import { makeHosts, type TestHost } from './hosts.js';
import { block, section } from './pages.js';
import { AS_HOST, hostImage, makeImage, podman, removeContainers } from './podman.js';
import { startTraffic, type Traffic, type TrafficOptions } from './traffic.js';
import { patiently } from './wait.js';

const execute = promisify(execFile);
const ROOT = resolve(import.meta.dirname, '../..');
const PAGE = 'docs/hosts.md';
/** The unit that `pm2 startup` writes. */
export const UNIT = 'pm2-pm2-envoy.service';
/** Two that only root may open, and the manager's. */
export const PORTS = { http: 80, tcp: 443, serve: 8_090 };
/** Where the host finds what the test has for it. */
const GIVEN = '/root/given';
/** What Envoy a test can install on it. */
export const ENVOYS = { older: '/root/envoy-1.39.3', newer: '/root/envoy-1.40.0' };
/** As much of each as two cores have time for beside a host. */
const LIGHT: Partial<TrafficOptions> = { keepAlive: 4, newPerSecond: 50, sessions: 1, streams: 2 };

/** A host under systemd on which docs/hosts.md was followed, with a backend beside it. */
export interface Vm {
  /** Of the container that stands for the host, for Podman. */
  name: string;
  /** Its network. */
  network: TestHost;
  backend: Backend;
  /** Runs a script as root; gives what it prints, rejects when it fails. */
  run(script: string): Promise<string>;
  /** Brings what the test made to the host: the path that it has there. */
  give(name: string, content: string): string;
  /** Properties of the unit, as `systemctl show` has them. */
  unit(...properties: readonly string[]): Promise<Record<string, string>>;
  isReady(): Promise<boolean>;
  /** Starts clients of the host, and another Envoy that serves the same. */
  startTraffic(): Promise<Traffic>;
  /** New connections go to the other Envoy from now on: what a load balancer does. */
  moveAway(traffic: Traffic): Promise<void>;
}

/** What there is to choose. */
export interface VmOptions {
  /** More of pm2-envoy's configuration file. */
  settings?: Readonly<Record<string, unknown>>;
  /** As docs/hosts.md leaves it, with the bootstrap that is shown there. */
  plain?: boolean;
}

/** Runs a test on a host that is ready, and removes everything after it. */
export async function withVm(options: VmOptions, use: (vm: Vm) => Promise<void>): Promise<void> {
  const image = await vmImage();
  const folder = makeFolder();
  chmodSync(folder.path, 0o755);
  const hosts = await makeHosts();
  const backend = await startBackendProcess(hosts.ours.within);
  const name = `pm2-envoy-test-${basename(folder.path)}`;
  const others: Elsewhere[] = [];
  try {
    const vm = openVm({ name, folder: folder.path, network: hosts.ours, backend, others });
    await bootVm(vm, image, folder.path);
    if (!options.plain) await configure(vm, options.settings ?? {});
    await vm.run(blockOf('Start'));
    await patiently('the host to be ready', vm.isReady);
    await use(vm).catch(async (error: unknown) => {
      console.error(await logsOf(vm));
      throw error;
    });
  } finally {
    await removeContainers(name);
    await Promise.all(others.map((other) => other.stop()));
    await backend.close();
    await hosts.stop();
    folder.remove();
  }
}

/** Waits until systemd has come up. */
export async function untilBooted(vm: Vm): Promise<void> {
  await patiently('systemd to come up', async () => {
    const state = await vm.run('systemctl is-system-running || true');
    if (state === 'degraded') throw new Error(await vm.run('systemctl --failed'));
    return state === 'running';
  });
}

interface Parts {
  name: string;
  folder: string;
  network: TestHost;
  backend: Backend;
  others: Elsewhere[];
}

function openVm({ name, folder, network, backend, others }: Parts): Vm {
  const run = (script: string): Promise<string> =>
    podman('exec', name, 'bash', '-euo', 'pipefail', '-c', script);
  return {
    name,
    network,
    backend,
    run,
    give: (file, content) => {
      writeFileSync(join(folder, file), content);
      return `${GIVEN}/${file}`;
    },
    unit: async (...properties) => {
      const shown = await run(`systemctl show ${UNIT} --property=${properties.join()}`);
      return Object.fromEntries(shown.split('\n').map((line) => line.split(/=(.*)/s)));
    },
    isReady: async () => {
      const { status } = await network.call({ port: PORTS.serve, path: '/readyz' });
      return status === 200;
    },
    startTraffic: async () => {
      others.push(await startElsewhere(network, backend));
      const { http, tcp } = PORTS;
      return startTraffic({ http, tcp }, LIGHT, network.within);
    },
    moveAway: async (traffic) => {
      await Promise.all(others.map(({ ports }) => traffic.moveTo(ports)));
    },
  };
}

async function bootVm(vm: Vm, image: string, folder: string): Promise<void> {
  await podman(
    'run',
    '--detach',
    `--name=${vm.name}`,
    `--network=ns:${vm.network.namespace}`,
    `--volume=${folder}:${GIVEN}`,
    `--volume=${envoyBinary('OLDER_ENVOY_BIN')}:${ENVOYS.older}:ro`,
    `--volume=${envoyBinary()}:${ENVOYS.newer}:ro`,
    ...AS_HOST,
    image,
    '/lib/systemd/systemd',
  );
  await untilBooted(vm);
  await vm.run(`install ${ENVOYS.older} /usr/local/bin/envoy`);
}

async function configure(vm: Vm, settings: Readonly<Record<string, unknown>>): Promise<void> {
  const shipped = readFileSync(join(ROOT, 'deploy/systemd/pm2-envoy.json'), 'utf8');
  const all = { ...JSON.parse(shipped), ...settings };
  const files = [
    vm.give('pm2-envoy.json', JSON.stringify(all)),
    vm.give('envoy.yaml', JSON.stringify(twoListeners(PORTS, vm.backend))),
  ];
  await vm.run(`install -m 644 -t /etc/pm2-envoy ${files.join(' ')}`);
}

/** What the unit and the apps have said. */
async function logsOf(vm: Vm): Promise<string> {
  const script = `journalctl --unit ${UNIT} --no-pager | cut -c 1-300; tail -n 10 /var/log/pm2-envoy/*.log`;
  return vm.run(script).catch(String);
}

let made: Promise<string> | undefined;

/** A host on which `Install` of docs/hosts.md was followed, with the package that this checkout makes. */
function vmImage(): Promise<string> {
  made ??= makeVmImage();
  return made;
}

async function makeVmImage(): Promise<string> {
  const base = await hostImage();
  const packed = makeFolder();
  try {
    const words = ['pack', '--silent', '--ignore-scripts', '--pack-destination', packed.path];
    const { stdout } = await execute('npm', words, { cwd: ROOT });
    const file = stdout.trim();
    const content = readFileSync(join(packed.path, file)).toString('base64');
    return await makeImage('vm', [containerfile(base), content], async (folder, tag) => {
      copyFileSync(join(packed.path, file), join(folder, file));
      writeFileSync(join(folder, 'install.sh'), blockOf('Install'));
      writeFileSync(join(folder, 'Containerfile'), containerfile(base));
      await podman('build', '--quiet', '--network=host', `--tag=${tag}`, folder);
    });
  } finally {
    packed.remove();
  }
}

function containerfile(base: string): string {
  return [
    `FROM ${base}`,
    'WORKDIR /root',
    'COPY . .',
    'RUN bash -euxc "$(cat install.sh)" && rm -r .npm',
    '',
  ].join('\n');
}

/** The commands that a section of docs/hosts.md gives. */
function blockOf(title: string): string {
  return block(section(readFileSync(join(ROOT, PAGE), 'utf8'), title), 'sh');
}
