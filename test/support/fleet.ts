import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import type { Status } from '../../src/status/status.js';
import { type PlaybookRun, runPlaybook } from './ansible.js';
import { envoyBinary, startTestEnvoy, type TestEnvoy } from './envoy.js';
import { frontBootstrap, HOST_PORT, hostBootstrap } from './fleet-bootstraps.js';
import { makeFolder } from './folder.js';
import { makeStar, type TestHost, type TestStar } from './hosts.js';
import { end } from './manager.js';
import { AS_HOST, hostImage, makeImage, podman, removeContainers } from './podman.js';
import { startTraffic, type Traffic } from './traffic.js';
import { patiently } from './wait.js';

const run = promisify(execFile);
const ROOT = resolve(import.meta.dirname, '../..');
const FRONT_PORT = 8080;
const FILES_PORT = 8081;
/** 300 requests a second and a few more. */
const LOAD = { newPerSecond: 225, keepAlive: 8, pauseMs: 100, sessions: 0, slowPerSecond: 5 };

/** Hosts with systemd and an SSH server, and a balancer between them that reaches them all. */
export interface Fleet {
  hosts: FleetHost[];
  /**
   * Runs roll.yml from where the balancer is, with our package.
   *
   * @param args more arguments of ansible-playbook
   */
  roll(variables: Readonly<Record<string, unknown>>, ...args: string[]): Promise<PlaybookRun>;
  /** Our package as another version; gives its path. */
  packAs(version: string): Promise<string>;
  /** Writes a bootstrap for the hosts, whose answer is `body`; gives its path. */
  writeBootstrap(body: string, address?: string): string;
  /** Writes tasks of Ansible; gives their path. */
  writeTasks(tasks: readonly object[]): string;
  /** Where the hosts can fetch an Envoy from, and its checksum. */
  serveEnvoy(name: 'ENVOY_BIN' | 'OLDER_ENVOY_BIN'): Promise<{ url: string; checksum: string }>;
  /** Starts an Envoy in front of the hosts. */
  startFront(): Promise<TestEnvoy>;
  /** Starts clients of the front Envoy: 300 requests a second and more, `bodies` are right. */
  startLoad(bodies: readonly string[]): Promise<Traffic>;
  /** Ends everything. */
  stop(): Promise<void>;
}

/** One of the hosts. */
export interface FleetHost {
  name: string;
  ipv4: string;
  /** What `pm2-envoy status` says there. */
  status(): Promise<Status>;
  /** What Envoy answers there. */
  answer(): string;
  /** Runs a command as root. */
  exec(...command: string[]): Promise<string>;
}

/** What to end, latest first. */
type Ends = (() => unknown)[];

/** Makes the hosts; nothing of ours is installed on them. */
export async function makeFleet(names: readonly string[]): Promise<Fleet> {
  const folder = makeFolder();
  const ends: Ends = [folder.remove];
  const stop = async (): Promise<void> => {
    for (const one of ends.splice(0).reverse()) await one();
  };
  try {
    const star = await makeStar(names.length);
    ends.push(star.stop);
    const hosts = star.around.map((at, index) =>
      hostOf(names[index] ?? '', { at, from: star.center }),
    );
    ends.push(() => removeContainers(...names.map(containerOf)));
    const key = await startHosts(names, star, folder.path);
    const inventory = writeInventory(folder.path, hosts, key);
    const ours = { pm2_envoy_package: await pack(folder.path) };
    return {
      hosts,
      roll: (variables, ...args) => {
        const all = JSON.stringify({ ...ours, ...variables });
        return runPlaybook(['-i', inventory, '-e', all, 'roll.yml', ...args], star.center.within);
      },
      packAs: (version) => repack(ours.pm2_envoy_package, version),
      ...filesIn(folder.path),
      ...balancerOf(star, ends),
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

function filesIn(folder: string): Pick<Fleet, 'writeBootstrap' | 'writeTasks'> {
  const write = (name: string, content: unknown): string => {
    const path = join(folder, name);
    writeFileSync(path, JSON.stringify(content, undefined, 2));
    return path;
  };
  return {
    writeBootstrap: (body, address) => write(`${body}.yaml.j2`, hostBootstrap(body, address)),
    writeTasks: (tasks) => write('tasks.yml', tasks),
  };
}

function balancerOf(
  { center, around }: TestStar,
  ends: Ends,
): Pick<Fleet, 'serveEnvoy' | 'startFront' | 'startLoad'> {
  const { within, ipv4: host } = center;
  return {
    serveEnvoy: async (name) => {
      const binary = envoyBinary(name);
      const server = serveFiles(center, dirname(binary));
      ends.push(() => end(server));
      const question = { host, port: FILES_PORT };
      await patiently('the files', () => center.ask([question])[0]?.status === 200);
      const hash = createHash('sha256').update(readFileSync(binary)).digest('hex');
      const url = `http://${host}:${FILES_PORT}/${basename(binary)}`;
      return { url, checksum: `sha256:${hash}` };
    },
    startFront: async () => {
      const addresses = around.map(({ ipv4 }) => ipv4);
      const bootstrap = { ...frontBootstrap(FRONT_PORT, addresses) };
      const front = await startTestEnvoy({ within, bootstrap });
      ends.push(front.stop);
      return front;
    },
    startLoad: async (bodies) => {
      const traffic = await startTraffic({ http: FRONT_PORT, tcp: 0 }, { ...LOAD, bodies }, within);
      ends.push(traffic.kill);
      return traffic;
    },
  };
}

function containerOf(name: string): string {
  return `pm2-envoy-test-fleet-${process.pid}-${name}`;
}

function hostOf(name: string, host: { at: TestHost; from: TestHost }): FleetHost {
  const { ipv4 } = host.at;
  const exec = (...command: string[]): Promise<string> =>
    podman('exec', containerOf(name), ...command);
  return {
    name,
    ipv4,
    exec,
    status: async () => JSON.parse(await exec('pm2-envoy', 'status', '--json')),
    answer: () => host.from.ask([{ host: ipv4, port: HOST_PORT }])[0]?.body ?? '',
  };
}

/** Starts the containers; gives the key that root on them takes. */
async function startHosts(
  names: readonly string[],
  { around }: TestStar,
  folder: string,
): Promise<string> {
  const key = join(folder, 'key');
  await run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', key]);
  const image = await fleetImage();
  const start = ({ namespace }: TestHost, index: number): Promise<void> =>
    startHost(names[index] ?? '', { image, namespace, key: `${key}.pub` });
  await Promise.all(around.map(start));
  return key;
}

async function startHost(
  name: string,
  from: { image: string; namespace: string; key: string },
): Promise<void> {
  const container = containerOf(name);
  const network = ['--hostname', name, '--network', `ns:${from.namespace}`];
  const how = ['--detach', ...AS_HOST, ...network];
  await podman('run', '--name', container, ...how, from.image, '/lib/systemd/systemd');
  const ssh = '/root/.ssh';
  await podman('exec', container, 'mkdir', '--parents', '--mode=700', ssh);
  await podman('cp', from.key, `${container}:${ssh}/authorized_keys`);
  await podman('exec', container, 'chown', 'root:root', `${ssh}/authorized_keys`);
  await patiently(`${name} to be up`, async () => {
    const state = await podman('exec', container, 'systemctl', 'is-active', 'ssh');
    return state === 'active';
  });
}

/** A host whose npm has what our package depends on: it reaches no registry. */
async function fleetImage(): Promise<string> {
  const { dependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  const host = await hostImage();
  return makeImage('fleet', [host, JSON.stringify(dependencies)], async (folder, tag) => {
    writeFileSync(join(folder, 'package.json'), JSON.stringify({ private: true, dependencies }));
    const file = [
      `FROM ${host}`,
      'COPY package.json /tmp/warm/',
      'RUN cd /tmp/warm && npm install --omit=dev --ignore-scripts && cd / && rm -r /tmp/warm',
      'RUN npm config set --location=global offline=true',
      '',
    ].join('\n');
    writeFileSync(join(folder, 'Containerfile'), file);
    await podman('build', '--network', 'host', '--quiet', '--tag', tag, folder);
  });
}

function writeInventory(folder: string, hosts: readonly FleetHost[], key: string): string {
  const path = join(folder, 'inventory.ini');
  const ssh = `-o UserKnownHostsFile=${folder}/known_hosts -o StrictHostKeyChecking=accept-new`;
  const lines = [
    '[envoy]',
    ...hosts.map(({ name, ipv4 }) => `${name} ansible_host=${ipv4}`),
    '[envoy:vars]',
    'ansible_user=root',
    `ansible_ssh_private_key_file=${key}`,
    `ansible_ssh_common_args=${ssh}`,
    'ansible_python_interpreter=/usr/bin/python3',
    '',
  ];
  writeFileSync(path, lines.join('\n'));
  return path;
}

/** Our package as `npm pack` makes it of this checkout, which has been built. */
async function pack(folder: string): Promise<string> {
  const args = ['pack', '--silent', '--ignore-scripts', '--pack-destination', folder];
  const { stdout } = await run('npm', args, { cwd: ROOT });
  return join(folder, stdout.trim());
}

/** The same files under another version. */
async function repack(tarball: string, version: string): Promise<string> {
  const folder = join(dirname(tarball), version);
  mkdirSync(folder);
  await run('tar', ['--extract', '--file', tarball, '--directory', folder]);
  const file = join(folder, 'package/package.json');
  writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, 'utf8')), version }));
  const path = join(dirname(tarball), `pm2-envoy-${version}.tgz`);
  await run('tar', ['--create', '--gzip', '--file', path, '--directory', folder, 'package']);
  return path;
}

function serveFiles(host: TestHost, folder: string): ChildProcess {
  const server = ['python3', '-m', 'http.server', '--directory', folder, String(FILES_PORT)];
  const [command = '', ...args] = [...host.within, ...server];
  return spawn(command, args, { stdio: 'ignore' });
}
