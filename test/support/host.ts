import { type ChildProcess, execFile, spawn } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  writeFileSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import { createAdminClient } from '../../src/admin/client.js';
import { openHostLedger } from '../../src/drain/locate.js';
import type { DrainRecord } from '../../src/drain/record.js';
import { envoyArguments } from '../../src/envoy/arguments.js';
import { type Generation, openGenerations } from '../../src/host/generations.js';
import { identify, ownIdentity } from '../../src/host/process-identity.js';
import { silentLog } from '../../src/log.js';
import { type AdminProxy, startAdminProxy } from './admin-proxy.js';
import { type Backend, startBackend } from './backend.js';
import { type BootstrapPorts, writeBootstrap } from './bootstrap.js';
import { envoyBinary } from './envoy.js';
import { makeFolder } from './folder.js';
import { eventually } from './wait.js';

/** Many may start at the same moment. */
const START_LIMIT_MS = 60_000;
const ROOT = resolve(import.meta.dirname, '../..');

/** A process that a test has started. */
export interface TestProcess {
  readonly pid: number;
  kill(signal: NodeJS.Signals): void;
  /** Its exit code, or the signal that ended it. */
  readonly exited: Promise<number | NodeJS.Signals | null>;
  isRunning(): boolean;
  /** What it has printed. */
  output(): string;
}

/** A generation with a proxy in front of its admin socket. */
export interface TestGeneration {
  envoy: TestProcess;
  proxy: AdminProxy;
  generation: Generation;
  ports: BootstrapPorts;
  /** The record of the drain of this generation. */
  record(): DrainRecord | undefined;
}

/** The two apps as plain processes, without pm2, in a run directory of their own. */
export interface TestHost {
  readonly folder: string;
  readonly runDir: string;
  readonly backend: Backend;
  /** Starts dist/apps/manager.js, and waits until it serves. */
  startManager(how?: Launch): Promise<TestProcess>;
  /** Starts dist/apps/runner.js, waits until its Envoy is LIVE, and puts a proxy before its admin socket. */
  startRunner(how?: Launch): Promise<{ runner: TestProcess } & Omit<TestGeneration, 'envoy'>>;
  /** Starts one of the apps without waiting for anything. */
  startApp(app: 'manager' | 'runner', how?: Launch): Promise<TestProcess>;
  /** Starts an Envoy as a runner would, which this process answers for. */
  startGeneration(): Promise<TestGeneration>;
  /** Runs the command line with the host's configuration; never rejects. */
  cli(
    args: readonly string[],
    env?: Readonly<Record<string, string>>,
  ): Promise<{ code: number; stdout: string; stderr: string }>;
  /** The ports of an Envoy, by its admin socket. */
  portsOf(adminSocket: string): Promise<BootstrapPorts>;
  /** Where the manager serves that was started last. */
  url(): string;
  /** The manager's answer. */
  http(method: string, path: string): Promise<{ status: number; body: string }>;
  /** Ends everything that was started. */
  stop(): Promise<void>;
}

/** What a process is started with instead of the usual. */
export interface Launch {
  /** Runs the command that it is handed as its arguments. */
  wrapper?: readonly string[];
  env?: Readonly<Record<string, string>>;
}

/** Prepares a host; `settings` is pm2-envoy's configuration file. */
export async function prepareHost(settings: Record<string, unknown> = {}): Promise<TestHost> {
  const folder = makeFolder();
  const runDir = join(folder.path, 'run');
  const backend = await startBackend();
  const bootstrap = join(folder.path, 'envoy.yaml');
  const configFile = join(folder.path, 'pm2-envoy.json');
  writeFileSync(
    configFile,
    JSON.stringify({
      'check-delay': '500ms',
      'check-interval': '500ms',
      'drain-timeout': '20s',
      'serve-port': 0,
      'run-dir': runDir,
      'envoy-config': bootstrap,
      'envoy-args': ['--concurrency', '1'],
      ...settings,
    }),
  );
  mkdirSync(runDir, { mode: 0o700 });
  const env = { ...process.env, PM2_ENVOY_CONFIG: configFile, ENVOY_BIN: envoyBinary() };
  const generations = openGenerations(runDir);
  const started: TestProcess[] = [];
  const proxies: AdminProxy[] = [];
  let base = '';

  const start = (
    command: readonly string[],
    more: Readonly<Record<string, string>> = {},
  ): TestProcess => {
    const log = join(folder.path, `output-${started.length}`);
    const process_ = watch(command, { log, env: { ...env, ...more } });
    started.push(process_);
    return process_;
  };
  const startApp = (app: string, { wrapper = [], env: more }: Launch = {}): TestProcess =>
    start([...wrapper, process.execPath, join(ROOT, `dist/apps/${app}.js`)], more);
  // Any free port: two Envoys that chose the same one would share it in silence (SO_REUSEPORT).
  const newBootstrap = (): void => writeBootstrap(bootstrap, { http: 0, tcp: 0 }, backend);
  const portsOf = async (path: string): Promise<BootstrapPorts> => {
    const admin = createAdminClient({ kind: 'unix', path });
    const ports = await eventually('its ports', () => admin.listenerPorts()).finally(admin.close);
    const [http = 0, tcp = 0] = ports;
    return { http, tcp };
  };
  const inFrontOf = async (adminSocket: string, real: string): Promise<AdminProxy> => {
    const proxy = await startAdminProxy({ at: adminSocket, real });
    proxies.push(proxy);
    return proxy;
  };
  const recordOf = (generation: Generation) => (): DrainRecord | undefined =>
    openHostLedger({ runDir, live: [generation], log: silentLog }).read();

  return {
    folder: folder.path,
    runDir,
    backend,
    startManager: async (how) => {
      const manager = startApp('manager', how);
      base = await eventually(
        'the manager to serve',
        () => {
          if (!manager.isRunning()) throw new Error(`it has ended: ${manager.output()}`);
          return /serving on (http:\/\/[\d.:]+)/.exec(manager.output())?.[1];
        },
        START_LIMIT_MS,
      );
      return manager;
    },
    startRunner: async (how) => {
      newBootstrap();
      const known = new Set(generations.live().map(({ number }) => number));
      const runner = startApp('runner', how);
      const generation = await eventually(
        'the runner’s Envoy to be LIVE',
        () => {
          if (!runner.isRunning()) throw new Error(`it has ended: ${runner.output()}`);
          return generations.live().find(({ number, ready }) => ready && !known.has(number));
        },
        START_LIMIT_MS,
      );
      const { adminSocket, directory } = generation;
      const real = join(directory, 'real.sock');
      renameSync(adminSocket, real);
      const ports = await portsOf(real);
      const proxy = await inFrontOf(adminSocket, real);
      return { runner, proxy, generation, ports, record: recordOf(generation) };
    },
    startApp: async (app, how) => {
      newBootstrap();
      return startApp(app, how);
    },
    startGeneration: async () => {
      newBootstrap();
      // Outside of the run directory, which a test may put on a disk of its own.
      const reserved = generations.reserve();
      const slot = { ...reserved, adminSocket: join(folder.path, `${reserved.number}.sock`) };
      const real = join(folder.path, `${reserved.number}.real`);
      const args = envoyArguments({
        bootstrap,
        adminSocket: real,
        drainTimeMs: 600_000,
        args: ['--concurrency', '1'],
      });
      const envoy = start([envoyBinary(), ...args]);
      const admin = createAdminClient({ kind: 'unix', path: real });
      await eventually(
        'Envoy to be LIVE',
        async () => (await admin.state()) === 'LIVE',
        START_LIMIT_MS,
      ).finally(admin.close);
      const ports = await portsOf(real);
      const proxy = await inFrontOf(slot.adminSocket, real);
      const generation: Generation = {
        ...slot,
        envoy: identify(envoy.pid) ?? { pid: 0, startTime: '' },
        runner: ownIdentity(),
        supervisor: undefined,
        version: undefined,
        launch: undefined,
        startedAt: new Date().toISOString(),
        ready: true,
        orphaned: false,
      };
      generations.write(generation);
      return { envoy, proxy, generation, ports, record: recordOf(generation) };
    },
    cli: (args, more = {}) =>
      new Promise((done) => {
        const command = [join(ROOT, 'bin/pm2-envoy.js'), ...args];
        const limits = { env: { ...env, ...more }, timeout: START_LIMIT_MS };
        execFile(process.execPath, command, limits, (error, stdout, stderr) =>
          done({ code: error ? Number(error.code ?? -1) : 0, stdout, stderr }),
        );
      }),
    portsOf,
    url: () => base,
    http: async (method, path) => {
      const reply = await fetch(`${base}${path}`, { method });
      return { status: reply.status, body: await reply.text() };
    },
    stop: async () => {
      for (const { envoy } of generations.live()) kill(envoy.pid);
      for (const process_ of started) {
        process_.kill('SIGKILL');
        await process_.exited;
      }
      for (const proxy of proxies) proxy.close();
      await backend.close();
      folder.remove();
    },
  };
}

/** Runs a test with a host of its own, and ends everything after it. */
export async function withHost(
  settings: Record<string, unknown>,
  use: (host: TestHost) => Promise<void>,
): Promise<void> {
  const host = await prepareHost(settings);
  try {
    await use(host);
  } finally {
    await host.stop();
  }
}

function watch(
  [command = '', ...args]: readonly string[],
  { log, env }: { log: string; env: NodeJS.ProcessEnv },
): TestProcess {
  const out = openSync(log, 'w');
  const child: ChildProcess = spawn(command, args, { stdio: ['ignore', out, out], env });
  closeSync(out);
  const exited = new Promise<number | NodeJS.Signals | null>((done) => {
    child.once('exit', (code, signal) => done(code ?? signal));
    child.once('error', () => done(null));
  });
  return {
    pid: child.pid ?? 0,
    kill: (signal) => void child.kill(signal),
    exited,
    isRunning: () => child.exitCode === null && child.signalCode === null,
    output: () => (existsSync(log) ? readFileSync(log, 'utf8') : ''),
  };
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended.
  }
}
