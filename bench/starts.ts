import { type ChildProcess, spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { join } from 'node:path';
import { envoyArguments } from '../src/envoy/arguments.js';
import { type Generation, openGenerations } from '../src/host/generations.js';
import { envoyApps, type Pm2App } from '../src/pm2/apps.js';
import { startBackend } from '../test/support/backend.js';
import { writeBootstrap } from '../test/support/bootstrap.js';
import { envoyBinary } from '../test/support/envoy.js';
import { makeFolder } from '../test/support/folder.js';
import { freePorts } from '../test/support/ports.js';
import { milliseconds, soon } from './measure.js';

/** What each start takes beyond what it can't do without, in milliseconds. */
export interface Starts {
  /** Manager to its first /healthz, beyond a bare Node server. */
  manager: number[];
  /** Runner to ready, beyond Envoy alone to LIVE. */
  runner: number[];
}

/** Starts each of them in turn, as pm2 would, but without it. */
export async function measureStarts(rounds: number): Promise<Starts> {
  const starts: Starts = { manager: [], runner: [] };
  const backend = await startBackend();
  for (let round = 0; round < rounds; round += 1) {
    const folder = makeFolder();
    const [http = 0, tcp = 0, serve = 0] = await freePorts(3);
    const at = (name: string): string => join(folder.path, name);
    writeBootstrap(at('envoy.yaml'), { http, tcp }, backend);
    const settings = {
      'run-dir': at('run'),
      'envoy-config': at('envoy.yaml'),
      'serve-port': serve,
    };
    writeFileSync(at('pm2-envoy.json'), JSON.stringify(settings));
    const env = { PM2_ENVOY_CONFIG: at('pm2-envoy.json') };
    const [runner, manager] = envoyApps({ cwd: folder.path, env });
    if (!runner || !manager) throw new Error('there are two apps');
    const bareMs = await untilServes([`${BARE}${serve})`], serve);
    const managerMs = await untilServes([...manager.node_args, manager.script], serve, env);
    starts.manager.push(managerMs - bareMs);
    const envoyMs = await untilLive(at('envoy.yaml'), at('admin.sock'));
    starts.runner.push((await untilReady(runner, { env, runDir: at('run') })) - envoyMs);
    folder.remove();
  }
  await backend.close();
  return starts;
}

/** A Node process that does nothing but answer. */
const BARE = '--eval=require("node:http").createServer((_, answer) => answer.end()).listen(';

async function untilServes(
  args: readonly string[],
  port: number,
  env: Record<string, string> = {},
): Promise<number> {
  let child: ChildProcess | undefined;
  const took = await milliseconds(async () => {
    child = start(process.execPath, args, env);
    await soon('it to serve', () => answers({ host: '127.0.0.1', port, path: '/healthz' }));
  });
  await end(child);
  return took;
}

async function untilLive(bootstrap: string, adminSocket: string): Promise<number> {
  const args = envoyArguments({ bootstrap, adminSocket, drainTimeMs: 600_000, args: [] });
  let child: ChildProcess | undefined;
  const took = await milliseconds(async () => {
    child = start(envoyBinary(), args);
    await soon('Envoy to be LIVE', () => answers({ socketPath: adminSocket, path: '/ready' }));
  });
  await end(child);
  return took;
}

async function untilReady(
  app: Pm2App,
  { env, runDir }: { env: Record<string, string>; runDir: string },
): Promise<number> {
  const generations = openGenerations(runDir);
  let child: ChildProcess | undefined;
  let ready: Generation | undefined;
  const took = await milliseconds(async () => {
    child = start(process.execPath, [...app.node_args, app.script], env);
    await soon('the runner to be ready', () => {
      ready = generations.live().find((generation) => generation.ready);
      return ready;
    });
  });
  await end(child);
  if (ready) process.kill(ready.envoy.pid, 'SIGKILL');
  return took;
}

function start(command: string, args: readonly string[], env: object = {}): ChildProcess {
  return spawn(command, args, { stdio: 'ignore', env: { ...process.env, ...env } });
}

async function end(child: ChildProcess | undefined): Promise<void> {
  const ended = new Promise((resolve) => child?.once('exit', resolve) ?? resolve(undefined));
  child?.kill('SIGKILL');
  await ended;
}

function answers(where: { host?: string; port?: number; socketPath?: string; path: string }) {
  return new Promise<boolean>((resolve) => {
    const request = get({ ...where, agent: false }, (response) => {
      response.resume().once('end', () => resolve(response.statusCode === 200));
    });
    request.once('error', () => resolve(false));
  });
}
