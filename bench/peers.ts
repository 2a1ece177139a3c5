import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { get } from 'node:http';
import { connect, createServer, type Server } from 'node:net';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { startTestEnvoy, type TestEnvoy } from '../test/support/envoy.js';
import { preparePm2, type TestPm2 } from '../test/support/pm2.js';
import { freePorts } from '../test/support/ports.js';
import { eventually } from '../test/support/wait.js';

/** A program that drains an Envoy, ready to be told to. */
export interface Round {
  httpPort: number;
  /** Tells it to drain; resolves when it says that this is done. */
  drain(): Promise<void>;
  /** How many callers wait, and when all have been answered. */
  wait(callers: number): Promise<void>[];
  /** The process that sits beside Envoy. */
  managerPid: number;
  stop(): Promise<void>;
}

/** A program to be measured. */
export interface Subject {
  name: string;
  /** A fresh Envoy, with nothing drained yet. */
  begin(): Promise<Round>;
  end(): Promise<void>;
}

/** The peers that are built, and their versions. */
const PEERS = {
  contour: 'github.com/projectcontour/contour/cmd/contour@v1.33.8',
  'envoy-gateway': 'github.com/envoyproxy/gateway/cmd/envoy-gateway@v1.9.1',
} as const;

/** Finds a peer's program, or has Go build it once. */
export function findPeer(name: keyof typeof PEERS): string {
  const named = process.env[`${name.toUpperCase().replace('-', '_')}_BIN`];
  if (named) return named;
  const folder = join(homedir(), '.cache/pm2-envoy-bench');
  const path = join(folder, name);
  if (existsSync(path)) return path;
  mkdirSync(folder, { recursive: true });
  console.error(`building ${PEERS[name]}, once…`);
  execFileSync('go', ['install', PEERS[name]], {
    env: { ...process.env, GOBIN: folder },
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  return path;
}

/** pm2-envoy as it is used: a real pm2 with runner and manager. */
export async function ours(
  settings: Record<string, unknown> = {},
): Promise<Subject & { pm2: TestPm2 }> {
  const pm2 = await preparePm2({ 'check-delay': '0s', 'drain-timeout': '5m', ...settings });
  await pm2.start();
  const managerPid = await pm2.pidOf('envoy-manager');
  let isFresh = true;
  const call = (): Promise<void> => answered(pm2.ports.serve, '/shutdown', 'POST');
  return {
    name: 'pm2-envoy',
    pm2,
    begin: async () => {
      if (!isFresh) {
        await pm2.pm2('restart', 'envoy');
        await pm2.untilReady();
        // A drain in the middle of a hand-over waits for the old Envoy as well.
        await eventually('one Envoy alone', () => pm2.generations().length === 1, 30_000);
      }
      isFresh = false;
      return {
        httpPort: pm2.ports.http,
        drain: call,
        wait: (callers) => Array.from({ length: callers }, call),
        managerPid,
        stop: async () => undefined,
      };
    },
    end: () => pm2.stop(),
  };
}

/** Contour's sidecar: `shutdown-manager`, and `shutdown` as its preStop hook runs it. */
export function contour(name: string, flags: readonly string[]): Subject {
  const binary = findPeer('contour');
  return peer(name, async (envoy) => {
    const [port = 0] = await freePorts(1);
    const file = join(envoy.folder, 'ready');
    const manager = start(binary, [
      ...['envoy', 'shutdown-manager', `--serve-port=${port}`, `--ready-file=${file}`],
    ]);
    await eventually('it to serve', () => answered(port, '/healthz').then(() => true));
    const admin = `--admin-address=${envoy.folder}/admin.sock`;
    return {
      manager,
      begin: () => start(binary, ['envoy', 'shutdown', admin, `--ready-file=${file}`, ...flags]),
      call: () => answered(port, '/shutdown'),
    };
  });
}

/** Where Envoy Gateway's programs expect everything; it can't be changed. */
const GATEWAY = { admin: 19_000, port: 19_002, file: '/tmp/shutdown-ready' };

/** Envoy Gateway's sidecar, likewise. */
export function gateway(name: string, flags: readonly string[]): Subject {
  const binary = findPeer('envoy-gateway');
  return peer(name, async (envoy) => {
    rmSync(GATEWAY.file, { force: true });
    const relay = await relayTo(GATEWAY.admin, join(envoy.folder, 'admin.sock'));
    const manager = start(binary, ['envoy', 'shutdown-manager']);
    await eventually('it to serve', () => answered(GATEWAY.port, '/healthz').then(() => true));
    return {
      manager,
      begin: () => start(binary, ['envoy', 'shutdown', ...flags]),
      call: () => answered(GATEWAY.port, '/shutdown/ready'),
      stop: () => relay.close(),
    };
  });
}

interface Sidecar {
  manager: ChildProcess;
  begin(): ChildProcess;
  call(): Promise<void>;
  stop?(): void;
}

function peer(name: string, run: (envoy: TestEnvoy) => Promise<Sidecar>): Subject {
  return {
    name,
    begin: async () => {
      const envoy = await startTestEnvoy({ within: [] });
      const sidecar = await run(envoy);
      let hook: ChildProcess | undefined;
      const call = (): Promise<void> => {
        hook ??= sidecar.begin();
        return sidecar.call();
      };
      return {
        httpPort: envoy.ports.http,
        drain: call,
        wait: (callers) => Array.from({ length: callers }, call),
        managerPid: sidecar.manager.pid ?? 0,
        stop: async () => {
          for (const child of [hook, sidecar.manager]) child?.kill('SIGKILL');
          sidecar.stop?.();
          await envoy.stop();
        },
      };
    },
    end: async () => undefined,
  };
}

function start(binary: string, args: readonly string[]): ChildProcess {
  return spawn(binary, args, { stdio: 'ignore' });
}

/** Resolves at the end of an answer, of whatever status. */
function answered(port: number, path: string, method = 'GET'): Promise<void> {
  return new Promise((resolve, reject) => {
    const request = get({ host: '127.0.0.1', port, path, method, agent: false }, (response) => {
      response.resume().once('end', resolve);
    });
    request.once('error', reject);
  });
}

function relayTo(port: number, path: string): Promise<Server> {
  const server = createServer((near) => {
    const far = connect(path);
    near.pipe(far).pipe(near);
    for (const socket of [near, far]) socket.on('error', () => socket.destroy());
  });
  return new Promise((resolve) => server.listen(port, '127.0.0.1', () => resolve(server)));
}
