import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { type Generation, openGenerations } from '../../src/host/generations.js';
import { identify } from '../../src/host/process-identity.js';
import { openPm2Daemon } from '../../src/pm2/daemon.js';
import { type Backend, startBackend } from './backend.js';
import { type BootstrapPorts, writeBootstrap } from './bootstrap.js';
import { envoyBinary } from './envoy.js';
import { makeFolder } from './folder.js';
import { freePorts } from './ports.js';
import { patiently } from './wait.js';

const run = promisify(execFile);
const require = createRequire(import.meta.url);
/** pm2's command line. `PM2_BIN`: another version's. */
export const PM2: string = process.env['PM2_BIN'] ?? require.resolve('pm2/bin/pm2');
const PM2_RUNTIME = require.resolve('pm2/bin/pm2-runtime');
const ROOT = resolve(import.meta.dirname, '../..');
/** No pm2 command of a test takes this long; one that does is a fault. */
const COMMAND_LIMIT_MS = 60_000;
const CLI = join(ROOT, 'bin/pm2-envoy.js');

/** A real pm2 with a home and a run directory of its own, and what it supervises. */
export interface TestPm2 {
  ports: BootstrapPorts & { admin: number; serve: number };
  folder: string;
  backend: Backend;
  env: NodeJS.ProcessEnv;
  /** The ecosystem file that {@link TestPm2.start} starts. */
  ecosystem: string;
  /** The command line's script. */
  cliPath: string;
  /** What the configuration file holds; written again after a change. */
  settings: Record<string, unknown>;
  /** From now on pm2's commands are another version's; `script` is its bin/pm2. */
  usePm2(script: string): void;
  /** Runs a pm2 command; rejects when it fails. */
  pm2(...args: string[]): Promise<string>;
  /** Starts pm2-runtime in the foreground. */
  runtime(): ChildProcess;
  /** Starts the ecosystem under a daemon, and waits until it serves. */
  start(): Promise<void>;
  /** Waits until manager and Envoy serve. */
  untilReady(): Promise<void>;
  /** Runs the command line; never rejects. */
  cli(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }>;
  /** The manager's answer. */
  http(method: string, path: string): Promise<{ status: number; body: string }>;
  /** Live generations, oldest first. */
  generations(): Generation[];
  /** pid of a pm2 app; 0 when it is not running, or there is no daemon. */
  pidOf(app: string): Promise<number>;
  daemonPid(): number;
  /** Ends the daemon by SIGKILL; resolves once it is gone, for a command that asks it hangs otherwise. */
  killDaemon(): Promise<void>;
  /** What pm2 itself has said so far. */
  ownLog(): string;
  /** What an app has logged so far. */
  log(app: string): string;
  /** Ends everything that was started, by its pid. */
  stop(): Promise<void>;
}

/** Prepares a pm2 of the test's own; `settings` is pm2-envoy's configuration file. */
export async function preparePm2(
  settings: Record<string, unknown> = {},
  makeBackend: () => Promise<Backend> = () => startBackend(),
): Promise<TestPm2> {
  const envoy = envoyBinary();
  const folder = makeFolder();
  const backend = await makeBackend();
  const [http = 0, tcp = 0, admin = 0, serve = 0] = await freePorts(4);
  const ports = { http, tcp, admin, serve };
  const bootstrap = join(folder.path, 'envoy.yaml');
  writeBootstrap(bootstrap, ports, backend);
  const configFile = join(folder.path, 'pm2-envoy.json');
  const allSettings: Record<string, unknown> = {
    'check-delay': '0s',
    'drain-timeout': '40s',
    'serve-port': serve,
    'run-dir': join(folder.path, 'run'),
    'envoy-config': bootstrap,
    'envoy-args': ['--concurrency', '2'],
    ...settings,
  };
  writeFileSync(configFile, JSON.stringify(allSettings));
  // From the shell of the tests: it makes any terminal a plain one.
  const { CI: _, ...own } = process.env;
  const env: NodeJS.ProcessEnv = {
    ...own,
    PM2_HOME: join(folder.path, 'pm2'),
    PM2_ENVOY_CONFIG: configFile,
    ENVOY_BIN: envoy,
    NO_COLOR: '1',
  };
  const ecosystem = join(ROOT, 'ecosystem.config.js');
  const children: ChildProcess[] = [];
  const generations = openGenerations(join(folder.path, 'run'));
  const seen = new Set<number>();
  let runtimeOutput = '';
  let script = PM2;

  const pm2 = async (...args: string[]): Promise<string> => {
    const { stdout } = await run(process.execPath, [script, ...args], {
      env,
      cwd: folder.path,
      timeout: COMMAND_LIMIT_MS,
    });
    return stdout;
  };
  const http_ = async (method: string, path: string) => {
    const reply = await fetch(`http://127.0.0.1:${serve}${path}`, { method });
    return { status: reply.status, body: await reply.text() };
  };
  const untilReady = async (): Promise<void> => {
    await patiently('/readyz', async () => (await http_('GET', '/readyz')).status === 200);
    // A runner that is stopped before pm2 knows that it is ready ends with another code.
    const isKnown = (): boolean => runtimeOutput.includes('App [envoy:0] online');
    if (children.length > 0) await patiently('pm2-runtime to know it', isKnown);
    for (const { envoy, runner } of generations.live()) seen.add(envoy.pid).add(runner.pid);
  };
  const daemon = openPm2Daemon(join(folder.path, 'pm2'));
  const daemonPid = (): number => {
    const file = join(folder.path, 'pm2', 'pm2.pid');
    return existsSync(file) ? Number(readFileSync(file, 'utf8')) : 0;
  };

  return {
    ports,
    folder: folder.path,
    backend,
    env,
    ecosystem,
    cliPath: CLI,
    settings: allSettings,
    usePm2: (other) => {
      script = other;
    },
    pm2,
    runtime: () => {
      const child = spawn(process.execPath, [PM2_RUNTIME, 'start', ecosystem], {
        env,
        cwd: folder.path,
        detached: true,
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      for (const stream of [child.stdout, child.stderr]) {
        stream?.on('data', (chunk: Buffer) => {
          runtimeOutput += chunk;
        });
      }
      children.push(child);
      return child;
    },
    start: async () => {
      await pm2('start', ecosystem);
      await untilReady();
    },
    untilReady,
    cli: async (...args) => {
      try {
        const { stdout, stderr } = await run(process.execPath, [CLI, ...args], {
          env,
          cwd: folder.path,
          timeout: COMMAND_LIMIT_MS,
        });
        return { code: 0, stdout, stderr };
      } catch (error) {
        const { code, stdout, stderr } = error as { code: number; stdout: string; stderr: string };
        return { code, stdout, stderr };
      }
    },
    http: http_,
    generations: () => generations.live(),
    pidOf: async (app) => {
      // Not by `pm2 jlist`: that takes half a second of a core each time, and tests ask again and again.
      // A daemon that is late is not the same as none.
      const list = await patiently('pm2’s list', () =>
        daemon.processes().catch((error: unknown) => {
          if (identify(daemonPid())) throw error;
          return [];
        }),
      );
      return list.find(({ name }) => name === app)?.pid ?? 0;
    },
    daemonPid,
    killDaemon: async () => {
      const pid = daemonPid();
      process.kill(pid, 'SIGKILL');
      await patiently('the daemon to be gone', () => !identify(pid));
    },
    ownLog: () => {
      const file = join(folder.path, 'pm2', 'pm2.log');
      return runtimeOutput + (existsSync(file) ? readFileSync(file, 'utf8') : '');
    },
    log: (app) => {
      const files = [0, 1, 2, 3].flatMap((id) => [
        `${app}-out-${id}.log`,
        `${app}-error-${id}.log`,
      ]);
      return [...files, `${app}-out.log`, `${app}-error.log`]
        .map((name) => join(folder.path, 'pm2', 'logs', name))
        .filter((path) => existsSync(path))
        .map((path) => readFileSync(path, 'utf8'))
        .join('');
    },
    stop: async () => {
      for (const { envoy, runner } of generations.live()) seen.add(envoy.pid).add(runner.pid);
      const daemon = daemonPid();
      if (daemon) seen.add(daemon);
      for (const child of children) if (child.pid) seen.add(child.pid);
      kill(seen);
      // What a killed daemon left behind, or has just started, names our folder, and would write to it.
      await patiently('everything to end', () => {
        const left = pidsWith(folder.path);
        kill(left);
        return left.length === 0;
      });
      await backend.close();
      folder.remove();
    },
  };
}

/** Runs a test with a pm2 of its own, started unless told otherwise, and ends everything after it. */
export async function withPm2(
  settings: Record<string, unknown>,
  use: (pm2: TestPm2) => Promise<void>,
  start = true,
): Promise<void> {
  const pm2 = await preparePm2(settings);
  try {
    if (start) await pm2.start();
    await use(pm2);
  } finally {
    await pm2.stop();
  }
}

/** The body of `/status`. */
export async function statusOf(pm2: TestPm2) {
  return JSON.parse((await pm2.http('GET', '/status')).body);
}

function kill(pids: Iterable<number>): void {
  for (const pid of pids) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // It has ended.
    }
  }
}

/** Processes whose environment or command line names `text`: those that one test has started. */
export function pidsWith(text: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .map(Number)
    .filter((pid) => {
      try {
        return ['environ', 'cmdline'].some((file) =>
          readFileSync(`/proc/${pid}/${file}`, 'utf8').includes(text),
        );
      } catch {
        return false;
      }
    });
}
