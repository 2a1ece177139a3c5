import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, cpSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { type Backend, startBackendProcess } from './backend.js';
import { startElsewhere, twoListeners } from './elsewhere.js';
import { makeFolder } from './folder.js';
import { makeHosts, type TestHost, type TestHosts } from './hosts.js';
import { baseImage, envoyImage, makeImage, podman, removeContainers } from './podman.js';
import { startTraffic, type Traffic, type TrafficOptions, type TrafficPorts } from './traffic.js';
import { patiently } from './wait.js';

const ROOT = resolve(import.meta.dirname, '../..');
/** The image's own, and `tcp`. */
export const PORTS = { http: 10_000, tcp: 10_001, serve: 8_090 };
/** How a container is run that may as little as it can; `/tmp` is all that it can write. */
const LOCKED_DOWN = [
  '--read-only',
  '--read-only-tmpfs=false',
  '--tmpfs=/tmp',
  '--cap-drop=ALL',
  '--security-opt=no-new-privileges',
];
/** As much of each as two cores have time for beside a container. */
const LIGHT = {
  keepAlive: 4,
  newPerSecond: 50,
  sessions: 1,
  streams: 2,
  slowPerSecond: 4,
  slowMs: 1_500,
};

/** A container of the image in deploy/container, on a host of its own, with a backend beside it. */
export interface Edge {
  /** Of the container, for Podman. */
  name: string;
  /** The host that the container is on, as all containers of a pod are. */
  pod: TestHost;
  /** Another host, which reaches the first. */
  node: TestHost;
  /** The folder that is mounted at /etc/pm2-envoy. */
  folder: string;
  backend: Backend;
  /** Runs a command in the container; gives what it prints, rejects when it fails. */
  exec(...command: readonly string[]): Promise<string>;
  /** The pid in the container of the process whose command line matches. */
  pidOf(pattern: RegExp): Promise<number>;
  /** Everything that the container has printed. */
  logs(): Promise<string>;
  exitCode(): Promise<number>;
  /**
   * Starts clients of the container, and another Envoy that serves the same. From then on six slow requests
   * are under way at any moment, unless told otherwise.
   */
  startTraffic(options?: Partial<TrafficOptions>): Promise<Traffic>;
  /** New connections go to the other Envoy from now on: what a load balancer does. */
  moveAway(traffic: Traffic): Promise<void>;
  isReady(): Promise<boolean>;
  stop(): Promise<void>;
}

let image: Promise<string> | undefined;

/** The image of deploy/container, made from this checkout. */
export function edgeImage(): Promise<string> {
  image ??= buildImage();
  return image;
}

async function buildImage(): Promise<string> {
  const [base, envoy] = await Promise.all([baseImage(), envoyImage()]);
  return makeImage('edge', [base, envoy, contextHash()], async (folder, tag) => {
    const args = [`--build-arg=BASE=${base}`, `--build-arg=ENVOY=${envoy}`, `--tag=${tag}`];
    const file = join(ROOT, 'deploy/container/Dockerfile');
    await copyCheckout(folder);
    // Podman knows HEALTHCHECK in this format only.
    await podman('build', '--format=docker', '--network=host', `--file=${file}`, ...args, folder);
  });
}

/** As a checkout under the umask 077 is: the container's user may read nothing of it. */
async function copyCheckout(folder: string): Promise<void> {
  for (const path of [join(ROOT, '.dockerignore'), ...contextPaths()]) {
    cpSync(path, join(folder, path.slice(ROOT.length)), { recursive: true });
  }
  await promisify(execFile)('chmod', ['--recursive', 'go=', folder]);
}

/** What a container is run with. */
export interface EdgeOptions {
  env?: Readonly<Record<string, string>>;
  /** As the image is, without anything that is mounted or taken away. */
  plain?: boolean;
  /** More options of `podman run`. */
  args?: readonly string[];
}

/** Runs a test with a container that is ready, and removes everything after it. */
export async function withEdge(
  options: EdgeOptions,
  use: (edge: Edge) => Promise<void>,
): Promise<void> {
  const edge = await startEdge(options);
  try {
    await patiently('the container to be ready', edge.isReady);
    await use(edge);
  } catch (error) {
    console.error(await edge.logs());
    throw error;
  } finally {
    await edge.stop();
  }
}

/** Starts a container, and does not wait for it. */
export async function startEdge(options: EdgeOptions = {}): Promise<Edge> {
  const tag = await edgeImage();
  const folder = makeFolder();
  const hosts = await makeHosts();
  const backend = await startBackendProcess(hosts.ours.within);
  const name = `pm2-envoy-test-${basename(folder.path)}`;
  const started: (() => unknown)[] = [];
  const stop = async (): Promise<void> => {
    await removeContainers(name);
    for (const end of started) await end();
    await backend.close();
    await hosts.stop();
    folder.remove();
  };
  chmodSync(folder.path, 0o755);
  writeEdgeBootstrap(folder.path, backend);
  const network = `--network=ns:${hosts.ours.namespace}`;
  const words = [...runOptions(options, folder.path), network, `--name=${name}`];
  try {
    await podman('run', '--detach', ...words, tag);
  } catch (error) {
    await stop();
    throw error;
  }
  return edgeOf({ name, hosts, folder: folder.path, backend, started, stop });
}

function runOptions({ env = {}, plain, args = [] }: EdgeOptions, folder: string): string[] {
  const variables = Object.entries(env).map(([key, value]) => `--env=${key}=${value}`);
  const usual = plain ? [] : [`--volume=${folder}:/etc/pm2-envoy:ro`, ...LOCKED_DOWN];
  return [...usual, ...variables, ...args];
}

function edgeOf(made: {
  name: string;
  hosts: TestHosts;
  folder: string;
  backend: Backend;
  /** What ends whatever the test starts beside the container. */
  started: (() => unknown)[];
  stop(): Promise<void>;
}): Edge {
  const { hosts, started, ...rest } = made;
  const { name, backend } = rest;
  const { ours: pod, other: node } = hosts;
  let elsewhere: TrafficPorts | undefined;
  return {
    ...rest,
    pod,
    node,
    exec: (...command) => podman('exec', name, ...command),
    pidOf: async (pattern) => {
      const found = (await processesOf({ name })).find(({ command }) => pattern.test(command));
      if (!found) throw new Error(`no process ${pattern}`);
      return found.pid;
    },
    logs: () => podman('logs', name),
    exitCode: async () => Number(await podman('inspect', '--format={{.State.ExitCode}}', name)),
    startTraffic: async (options) => {
      const other = await startElsewhere(pod, backend);
      started.push(other.stop);
      elsewhere = other.ports;
      const { http, tcp } = PORTS;
      const amounts = { ...LIGHT, ...options };
      const traffic = await startTraffic({ http, tcp }, amounts, pod.within);
      started.push(traffic.kill);
      if (amounts.slowPerSecond > 0) {
        await patiently('a slow answer', async () => (await traffic.look()).kinds.slow.requests);
      }
      return traffic;
    },
    moveAway: async (traffic) => {
      if (elsewhere) await traffic.moveTo(elsewhere);
    },
    isReady: async () => {
      const { status } = await pod.call({ port: PORTS.serve, path: '/readyz' });
      return status === 200;
    },
  };
}

/** A process of a container; `state` is a letter as in proc(5). */
export interface ContainerProcess {
  pid: number;
  parent: number;
  state: string;
  command: string;
}

/** The processes of a container; the image itself has no `ps`. */
export async function processesOf({ name }: Pick<Edge, 'name'>): Promise<ContainerProcess[]> {
  const [, ...lines] = (await podman('top', name, 'pid', 'ppid', 'state', 'args')).split('\n');
  return lines.map((line) => {
    const [pid, parent, state = '', ...command] = line.trim().split(/\s+/);
    return { pid: Number(pid), parent: Number(parent), state, command: command.join(' ') };
  });
}

/** Writes the bootstrap of an edge: HTTP and TCP to the backend; `path` is what `/` is there. */
export function writeEdgeBootstrap(folder: string, backend: Backend, path = '/'): void {
  const file = join(folder, 'envoy.yaml');
  writeFileSync(file, JSON.stringify(edgeBootstrap(backend, path), undefined, 2));
}

function edgeBootstrap(backend: Backend, path: string): object {
  const route = { cluster: 'http', timeout: '0s' };
  const routes = [
    { match: { path: '/' }, route: { ...route, prefix_rewrite: path } },
    { match: { prefix: '/' }, route },
  ];
  return twoListeners(PORTS, backend, {
    access_log: [],
    route_config: { virtual_hosts: [{ name: 'all', domains: ['*'], routes }] },
  });
}

/** Of all that the build of the image can see. */
function contextHash(): string {
  const hash = createHash('sha256');
  const add = (path: string): void => {
    if (statSync(path).isDirectory()) {
      for (const name of readdirSync(path).sort()) add(join(path, name));
    } else hash.update(path.slice(ROOT.length)).update(readFileSync(path));
  };
  for (const path of contextPaths()) add(path);
  return hash.digest('hex');
}

function contextPaths(): string[] {
  const rules = readFileSync(join(ROOT, '.dockerignore'), 'utf8').split('\n');
  return rules
    .filter((line) => line.startsWith('!'))
    .map((line) => join(ROOT, line.slice(1)))
    .map((path) => (path.includes('*') ? dirname(path) : path));
}
