/**
 * What a whole container takes, by its cgroup: pm2, runner, manager and Envoy as the image runs them, beside the two
 * containers of Envoy and Contour's shutdown-manager, and beside pm2 with two apps that do nothing. Part of `npm run
 * bench`; alone: `npm run build && node --import tsx bench/container.ts [rounds]`, as root, which prints the section
 * for bench/RESULTS.md.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { dirname, join, relative, resolve } from 'node:path';
import { installEnvoy } from '../src/envoy/install.js';
import { type Backend, startBackend } from '../test/support/backend.js';
import { writeBootstrap } from '../test/support/bootstrap.js';
import { envoyBinary } from '../test/support/envoy.js';
import { makeFolder } from '../test/support/folder.js';
import { type MemoryGroup, type MemoryUse, makeMemoryGroup } from '../test/support/memory-group.js';
import { freePorts } from '../test/support/ports.js';
import { eventually } from '../test/support/wait.js';
import { holdIdle } from './hold.js';
import { rest } from './measure.js';
import { findPeer } from './peers.js';
import { type Row, toMarkdown } from './table.js';

const ROOT = resolve(import.meta.dirname, '..');
/** V8 has tidied up after the start by then. */
const IDLE_MS = 60_000;
const DRAIN_MS = 20_000;
/** As a kubelet asks a readiness probe. */
const PROBE_MS = 10_000;
/** What this project wants to reach: so many times the peer's working set. */
const GOAL = '≤ 1.5 ×';

/** The columns of the rows. */
export const CONTAINERS: readonly string[] = [
  'pm2-envoy',
  'Envoy and Contour’s sidecar',
  'Envoy, pm2, two empty apps',
];

/** A pod's containers that serve, each in a cgroup of its own. */
export interface Container {
  groups: readonly MemoryGroup[];
  httpPort: number;
  /** What a readiness probe asks. */
  probe(): Promise<number>;
  /** What a preStop hook does; resolves at the end of the drain. Left out: there is no drain. */
  drain?(): Promise<unknown>;
  stop(): Promise<void>;
}

/** The rows: idle and in a drain, of ours and of the peer, side by side in each round. */
export async function containerRows(rounds: number): Promise<Row[]> {
  const seen: Measured[][] = CONTAINERS.map(() => []);
  const backend = await startBackend();
  const all = [prepareOurs(backend), preparePeer(backend), prepareFloor(backend)];
  try {
    for (let round = 0; round < rounds; round += 1) {
      const containers = await Promise.all(all.map(({ start }) => start()));
      const uses = await Promise.all(containers.map(measure));
      for (const [index, use] of uses.entries()) seen[index]?.push(use);
      for (const container of containers) await container.stop();
    }
  } finally {
    await backend.close();
    for (const { remove } of all) remove();
  }
  const row = (what: string, target: string, of: keyof Measured, key: keyof MemoryUse): Row => ({
    ...{ what, target },
    values: seen.map((list) => list.flatMap((use) => use[of]?.[key] ?? [])),
  });
  return [
    row('whole container, idle: working set, MiB', GOAL, 'idle', 'workingSetMb'),
    row('the same: anonymous, MiB', '–', 'idle', 'anonMb'),
    row('the same: all, with the cache of files, MiB', '–', 'idle', 'allMb'),
    row('whole container, in a drain: working set, MiB', GOAL, 'drain', 'workingSetMb'),
    row('the same: anonymous, MiB', '–', 'drain', 'anonMb'),
    row('the same: all, with the cache of files, MiB', '–', 'drain', 'allMb'),
  ];
}

/** Those of the rows that the chart shows. */
export function charted(rows: readonly Row[]): Row[] {
  return rows.filter(({ target }) => target === GOAL);
}

/** The rows with what they are about, for the results. */
export function containerSection(rows: readonly Row[]): string {
  return `## The whole container

Memory of all that runs, by cgroup, as a kubelet and a limit see it. Ours is one container: pm2-runtime, runner, manager
and Envoy, with what deploy/container runs. The peer's is the sum of two: Envoy, and its sidecar. Idle: ${IDLE_MS / 1_000} s after
they serve, with a readiness probe each ${PROBE_MS / 1_000} s; in a drain: ${DRAIN_MS / 1_000} s into it, held by one idle connection. Each
round begins with programs that are in no cache: what of their files is in memory counts. _Working set_ is all but the
cache of files that were not used lately. The last column is what no supervision by pm2 can do without: ours with
two apps that do nothing in place of runner and manager. Once an Envoy has ended, by a crash or in a redeploy, its program
counts as used twice, and ours is 50 MiB more, which the kernel can take at any time (docs/decisions/0010).

${toMarkdown(rows, CONTAINERS)}
`;
}

interface Measured {
  idle: MemoryUse;
  drain?: MemoryUse;
}

async function measure(container: Container): Promise<Measured> {
  const probe = setInterval(() => void container.probe().catch(() => undefined), PROBE_MS);
  await rest(IDLE_MS);
  const idle = sum(container.groups);
  if (!container.drain) {
    clearInterval(probe);
    return { idle };
  }
  const held = await holdIdle(container.httpPort);
  const done = container.drain();
  await rest(DRAIN_MS);
  const drain = sum(container.groups);
  clearInterval(probe);
  held.destroy();
  await done;
  return { idle, drain };
}

function sum(groups: readonly MemoryGroup[]): MemoryUse {
  const uses = groups.map((group) => group.use());
  const of = (key: keyof MemoryUse): number => uses.reduce((total, use) => total + use[key], 0);
  return { allMb: of('allMb'), anonMb: of('anonMb'), workingSetMb: of('workingSetMb') };
}

/** What {@link prepareOurs} can be told to do otherwise than the image does. */
export interface OursOptions {
  /** In place of the image's CMD; `/opt/pm2-envoy` is where the package is. */
  command?: readonly string[];
  env?: Readonly<Record<string, string>>;
  /** Changes files of the package before the first start. */
  change?(folder: string): void;
}

/** The files of a container, and how it is started. */
export interface Prepared {
  folder: string;
  start(): Promise<Container>;
  remove(): void;
}

/** Our container, as deploy/container/Dockerfile makes it. */
export function prepareOurs(backend: Backend, options: OursOptions = {}): Prepared {
  const { path: folder, remove } = makeFolder();
  const at = (...names: string[]): string => join(folder, ...names);
  copyPackage(at('opt'));
  const ecosystem = readFileSync(join(ROOT, 'deploy/container/ecosystem.config.js'), 'utf8');
  writeFileSync(at('opt/ecosystem.config.js'), ecosystem.replace('/etc/pm2-envoy', folder));
  mkdirSync(at('bin'));
  copyProgram(process.execPath, at('bin/node'));
  copyProgram(envoyBinary(), at('bin/envoy'));
  symlinkSync(at('opt/node_modules/pm2/bin/pm2-runtime'), at('bin/pm2-runtime'));
  options.change?.(folder);
  const start = async (): Promise<Container> => {
    const [http = 0, tcp = 0, serve = 0] = await freePorts(3);
    writeBootstrap(at('envoy.yaml'), { http, tcp }, backend);
    forget(folder);
    const [command = '', ...args] = (options.command ?? imageCommand()).map((word) =>
      word.replace('/opt/pm2-envoy', at('opt')).replace('/usr/local/bin', at('bin')),
    );
    const group = makeGroup();
    const child = startIn(group, at('bin', command), args, {
      ...imageVariables(),
      ...{ PATH: `${at('bin')}:/usr/bin:/bin`, HOME: folder },
      ...{ PM2_HOME: at('pm2'), PM2_ENVOY_RUN_DIR: at('run') },
      ...{ PM2_ENVOY_ENVOY_CONFIG: at('envoy.yaml'), PM2_ENVOY_SERVE_PORT: String(serve) },
      ...{ PM2_ENVOY_SERVE_ADDRESS: '127.0.0.1', PM2_ENVOY_CHECK_DELAY: '0s' },
      ...options.env,
    });
    const probe = (): Promise<number> => ask(serve, '/readyz');
    await eventually('it to serve', async () => (await probe()) === 200, 60_000);
    return {
      groups: [group],
      httpPort: http,
      probe,
      drain: () => ask(serve, '/shutdown', 'POST'),
      stop: () => endAll([group], child),
    };
  };
  return { folder, start, remove };
}

/** Our container with two apps that do nothing, in the modes of runner and manager, and an Envoy that pm2 starts. */
function prepareFloor(backend: Backend): Prepared {
  const prepared = prepareOurs(backend, {
    change: (folder) => {
      const at = (name: string): string => join(folder, 'opt', name);
      writeFileSync(
        at('empty.cjs'),
        "process.send('ready');\nsetInterval(() => undefined, 2 ** 30);\n",
      );
      writeFileSync(
        at('server.cjs'),
        `require('node:http').createServer((_, answer) => answer.end())
.listen(process.env.PM2_ENVOY_SERVE_PORT, '127.0.0.1');\n`,
      );
      const envoy = `exec ${folder}/bin/envoy -c ${folder}/envoy.yaml --disable-hot-restart --concurrency 2 >/dev/null 2>&1`;
      const shared = {
        ...{ treekill: false, pmx: false, disable_source_map_support: true },
        ...{ out_file: '/dev/null', error_file: '/dev/null' },
      };
      const apps = [
        { ...shared, name: 'empty', script: at('empty.cjs'), exec_mode: 'cluster', instances: 1 },
        { ...shared, name: 'server', script: at('server.cjs'), exec_mode: 'fork' },
        { ...shared, name: 'envoy', script: '/bin/sh', args: ['-c', envoy], interpreter: 'none' },
      ];
      writeFileSync(at('ecosystem.config.js'), `export const apps = ${JSON.stringify(apps)};\n`);
    },
  });
  const start = async (): Promise<Container> => {
    const { drain, ...container } = await prepared.start();
    await eventually('Envoy', async () => (await ask(container.httpPort)) === 200, 60_000);
    return container;
  };
  return { ...prepared, start };
}

/** Envoy, and the sidecar beside it, as Contour runs them: its preStop hook runs in the sidecar. */
function preparePeer(backend: Backend): Prepared {
  const { path: folder, remove } = makeFolder();
  const at = (...names: string[]): string => join(folder, ...names);
  mkdirSync(at('bin'));
  copyProgram(envoyBinary(), at('bin/envoy'));
  copyProgram(findPeer('contour'), at('bin/contour'));
  const start = async (): Promise<Container> => {
    const [http = 0, tcp = 0, serve = 0] = await freePorts(3);
    const admin = { address: { pipe: { path: at('admin.sock') } } };
    writeBootstrap(at('envoy.yaml'), { http, tcp }, backend, { admin });
    forget(folder);
    const [main, sidecar] = [makeGroup(), makeGroup()];
    const options = ['--disable-hot-restart', '--concurrency', '2'];
    const envoy = startIn(main, at('bin/envoy'), ['-c', at('envoy.yaml'), ...options]);
    const ready = `--ready-file=${at('ready')}`;
    const contour = (...args: string[]): ChildProcess =>
      startIn(sidecar, at('bin/contour'), ['envoy', ...args, ready]);
    const manager = contour('shutdown-manager', `--serve-port=${serve}`);
    const probe = (): Promise<number> => ask(serve, '/healthz');
    await eventually(
      'it to serve',
      async () => (await probe()) === 200 && (await ask(http)) === 200,
    );
    return {
      groups: [main, sidecar],
      httpPort: http,
      probe,
      drain: () => {
        contour('shutdown', `--admin-address=${at('admin.sock')}`, '--check-delay=0s');
        return ask(serve, '/shutdown');
      },
      stop: () => endAll([main, sidecar], envoy, manager),
    };
  };
  return { folder, start, remove };
}

/** What the image has of this package, and of those that it needs. */
function copyPackage(to: string): void {
  const list = ['ls', '--omit=dev', '--all', '--parseable'];
  const packages = execFileSync('npm', list, { cwd: ROOT, encoding: 'utf8' }).trim().split('\n');
  const needed = packages.slice(1).map((path) => relative(ROOT, path));
  const own = ['package.json', 'assets', 'bin', 'config', 'dist'];
  for (const name of [...own, ...needed]) {
    cpSync(join(ROOT, name), join(to, name), { recursive: true });
  }
  const unused = ['*.map', '*.ts', '*.md'].flatMap((name) => ['-o', '-name', name]).slice(1);
  execFileSync('find', [to, '-type', 'f', '(', ...unused, ')', '-delete']);
}

function copyProgram(from: string, to: string): void {
  mkdirSync(dirname(to), { recursive: true });
  cpSync(from, to);
}

/** Has the kernel drop what it keeps of these files: the group whose process reads one first is charged for it. */
function forget(folder: string): void {
  execFileSync('python3', ['-c', FORGET, folder]);
}

const FORGET = `
import os, sys
for folder, _, names in os.walk(sys.argv[1]):
    for name in names:
        path = os.path.join(folder, name)
        if os.path.isfile(path) and not os.path.islink(path):
            file = os.open(path, os.O_RDONLY)
            os.fsync(file)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(file)
`;

/** The CMD of the image. */
function imageCommand(): string[] {
  return JSON.parse(/^CMD (.*)$/m.exec(dockerfile())?.[1] ?? '[]');
}

/** The ENV of the image. */
function imageVariables(): Record<string, string> {
  const [, lines = ''] = /^ENV ((?:.*\\\n)*.*)$/m.exec(dockerfile()) ?? [];
  const pairs = [...lines.matchAll(/(\w+)=(\S+)/g)];
  return Object.fromEntries(pairs.map(([, name = '', value = '']) => [name, value]));
}

function dockerfile(): string {
  return readFileSync(join(ROOT, 'deploy/container/Dockerfile'), 'utf8');
}

function makeGroup(): MemoryGroup {
  const group = makeMemoryGroup();
  if (!group) throw new Error('no memory cgroup can be made here: run it as root');
  return group;
}

/** Its output goes nowhere: Envoy can't write its access log to what Node takes for a pipe. */
function startIn(
  group: MemoryGroup,
  command: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv = process.env,
): ChildProcess {
  const stdio: ['pipe', 'ignore', 'ignore'] = ['pipe', 'ignore', 'ignore'];
  const child = spawn('sh', ['-c', 'read go; exec "$0" "$@"', command, ...args], { env, stdio });
  group.take(child.pid ?? 0);
  child.stdin.end('go\n');
  return child;
}

async function endAll(
  groups: readonly MemoryGroup[],
  ...children: readonly ChildProcess[]
): Promise<void> {
  for (const child of children) child.kill('SIGKILL');
  for (const group of groups) {
    await eventually('the cgroup to be empty', () => {
      for (const pid of group.pids()) process.kill(pid, 'SIGKILL');
      group.remove();
      return true;
    });
  }
}

/** The status of an answer, once all of it has come. */
function ask(port: number, path = '/', method = 'GET'): Promise<number> {
  return new Promise((done, failed) => {
    const request = get({ host: '127.0.0.1', port, path, method, agent: false }, (response) => {
      response.resume().once('end', () => done(response.statusCode ?? 0));
    });
    request.once('error', failed);
  });
}

if (process.argv[1] === import.meta.filename) {
  process.env['ENVOY_BIN'] ??= (await installEnvoy()).path;
  console.log(containerSection(await containerRows(Number(process.argv[2] ?? 3))));
  process.exit();
}
