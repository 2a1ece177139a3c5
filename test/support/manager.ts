import { type ChildProcess, spawn } from 'node:child_process';
import { openSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { type Answer, ask } from './ask.js';
import { patiently } from './wait.js';

const MANAGER = resolve(import.meta.dirname, '../../dist/apps/manager.js');

/** A built manager without pm2. */
export interface TestManager {
  port: number;
  pid: number;
  /** Its environment, for a command line that is to find it. */
  env: NodeJS.ProcessEnv;
  /** What it has logged so far. */
  log(): string;
  ask(
    path: string,
    options?: { method?: string; headers?: Record<string, string> },
  ): Promise<Answer>;
  stop(): Promise<void>;
}

/** Starts the built manager in `folder`, and waits until it serves. */
export async function startManager(options: {
  folder: string;
  port: number;
  settings: Record<string, unknown>;
  /** Command that runs it, such as one that enters a network namespace. */
  within?: readonly string[];
}): Promise<TestManager> {
  const { folder, port, within = [] } = options;
  const configFile = join(folder, `manager-${port}.json`);
  const settings = {
    'check-delay': '0s',
    'drain-timeout': '20s',
    'serve-port': port,
    'run-dir': join(folder, 'run'),
    ...options.settings,
  };
  writeFileSync(configFile, JSON.stringify(settings));
  const logFile = join(folder, `manager-${port}.log`);
  const output = openSync(logFile, 'a');
  const env = { ...process.env, PM2_ENVOY_CONFIG: configFile };
  const [command = '', ...args] = [...within, process.execPath, MANAGER];
  const child = spawn(command, args, { cwd: folder, env, stdio: ['ignore', output, output] });
  const log = (): string => readFileSync(logFile, 'utf8');
  await patiently('the manager to serve', () => {
    if (child.exitCode !== null) throw new Error(`the manager ended: ${log()}`);
    return log().includes('serving on');
  });
  return {
    port,
    pid: child.pid ?? 0,
    env,
    log,
    ask: (path, { method = 'GET', headers = {} } = {}) => ask({ port, method, path, headers }),
    stop: () => end(child),
  };
}

/** Runs a test with a manager of its own, and ends it after. */
export async function withManager(
  options: Parameters<typeof startManager>[0],
  use: (manager: TestManager) => Promise<void>,
): Promise<void> {
  const manager = await startManager(options);
  try {
    await use(manager);
  } finally {
    await manager.stop();
  }
}

/** Ends a child by SIGKILL, and waits for it. */
export async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((done) => child.once('exit', done));
  child.kill('SIGKILL');
  await ended;
}
