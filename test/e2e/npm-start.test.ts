import assert from 'node:assert/strict';
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, existsSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, it } from 'node:test';
import { promisify } from 'node:util';
import { readEndpoint } from '../../src/host/endpoint.js';
import { startBackend } from '../support/backend.js';
import { writeBootstrap } from '../support/bootstrap.js';
import { holdRequest, holdTcp, request } from '../support/clients.js';
import { envoyBinary } from '../support/envoy.js';
import { makeFolder } from '../support/folder.js';
import { pidsWith } from '../support/pm2.js';
import { freePorts } from '../support/ports.js';
import { eventually } from '../support/wait.js';

const run = promisify(execFile);
const ROOT = resolve(import.meta.dirname, '../..');

describe('npm start', { concurrency: 2 }, () => {
  it('says what to try, and on Ctrl-C in its terminal drains and ends with nothing left', () =>
    withTerminal({}, async ({ terminal, output, ports, folder }) => {
      await eventually('what to try', () => output().includes('Envoy serves.'), 60_000);
      assert.equal((await request(ports.http)).status, 200);
      const held = await holdTcp(ports.tcp);
      const slow = await holdRequest(ports.http);
      terminal.stdin?.write('\u0003');
      await eventually('the drain', () => output().includes('draining, then stopping'));
      assert.equal((await slow.finish()).body, 'came whole');
      await held.echo('still here');
      held.close();
      await ended(terminal);
      assert.match(output(), /everything has stopped \(exit code 0\)/);
      assert.equal(terminal.exitCode, 0);
      await eventually('no process to be left', () => pidsWith(folder).length === 0);
    }));

  it('runs in a folder with a space, with a pm2 of its own whatever PM2_HOME says, and without its noise', () =>
    withTerminal({}, async ({ terminal, output, ports, folder }) => {
      await eventually('what to try', () => output().includes('Envoy serves.'), 90_000);
      assert.match(output(), new RegExp(`curl http://127\\.0\\.0\\.1:${ports.http}/`));
      assert.equal(existsSync(join(folder, 'pm2')), false, 'the pm2 of the shell is left alone');
      // Another terminal, without the settings of this one.
      const env = { PATH: process.env['PATH'], HOME: folder, TMPDIR: folder };
      const status = await run('node', ['bin/pm2-envoy.js', 'status', '--json', '--app', 'envoy'], {
        cwd: join(folder, 'my checkout'),
        env,
      });
      assert.equal(JSON.parse(status.stdout).envoy.generation, 1);
      const slow = await holdRequest(ports.http);
      terminal.stdin?.write('\u0003');
      await eventually('the progress', () => /wait: 1 request left, 1 open/.test(output()), 30_000);
      assert.equal((await slow.finish()).body, 'came whole');
      await ended(terminal);
      assert.doesNotMatch(output(), /failed to kill/);
      assert.match(output(), /everything has stopped \(exit code 0\)/);
    }));

  it('shows what the drain waits for also when the manager is killed', () =>
    withTerminal({}, async ({ terminal, output, ports, folder }) => {
      await eventually('what to try', () => output().includes('Envoy serves.'), 90_000);
      const held = await holdTcp(ports.tcp);
      terminal.stdin?.write('\u0003');
      await eventually('the stop', () => /envoy-manager\): SIGINT: leaving/.test(output()));
      process.kill(readEndpoint(join(folder, 'run'))?.process.pid ?? assert.fail(), 'SIGKILL');
      await eventually('its end', () => /envoy-manager:\d+\] exited/.test(output()));
      const before = output().length;
      await eventually('the progress', () =>
        /wait: .*1 TCP connection left/.test(output().slice(before)),
      );
      held.close();
      await ended(terminal);
      assert.match(output(), /everything has stopped \(exit code 0\)/);
    }));

  it('with the port of a listener taken ends immediately, says which and how to find who', () =>
    withTerminal({ isListenerTaken: true }, async ({ terminal, output, folder }) => {
      await ended(terminal);
      assert.notEqual(terminal.exitCode, 0);
      assert.match(
        output().replaceAll(/\s+/g, ' '),
        /Envoy’s listener can't listen on 127\.0\.0\.1 port \d+ \(another program uses it\): end that program \(`ss -ltnp/,
      );
      assert.deepEqual(pidsWith(folder), []);
    }));

  it('with a bootstrap that Envoy refuses ends immediately, says why, and starts nothing', () =>
    withTerminal({ bootstrap: 'static_resources: 1\n' }, async ({ terminal, output, folder }) => {
      await ended(terminal);
      assert.notEqual(terminal.exitCode, 0);
      assert.match(output(), /Envoy refuses the bootstrap file/);
      assert.deepEqual(pidsWith(folder), []);
    }));

  it('with the manager’s port taken ends immediately, says which, and starts nothing', () =>
    withTerminal({ isPortTaken: true }, async ({ terminal, output, folder }) => {
      await ended(terminal);
      assert.notEqual(terminal.exitCode, 0);
      assert.match(
        output(),
        /the manager can't listen on 127\.0\.0\.1 port \d+ \(another program uses it\): `PM2_ENVOY_SERVE_PORT=\d+ npm start`/,
      );
      assert.deepEqual(pidsWith(folder), []);
    }));

  it('a second time in the same folder is refused, and leaves the first one alone', () =>
    withTerminal({}, async ({ output, ports, folder, again }) => {
      await eventually('what to try', () => output().includes('Envoy serves.'), 60_000);
      const second = again();
      await ended(second.terminal);
      assert.notEqual(second.terminal.exitCode, 0);
      assert.match(second.output(), /Envoy is already running \(generation 1, pid \d+/);
      // With settings that do not meet: its pm2 is the same.
      const [serve = 0] = await freePorts(1);
      const third = again({
        PM2_ENVOY_RUN_DIR: join(folder, 'run3'),
        PM2_ENVOY_SERVE_PORT: String(serve),
        PM2_ENVOY_ENVOY_CONFIG: join(folder, 'other.yaml'),
      });
      await ended(third.terminal);
      assert.notEqual(third.terminal.exitCode, 0);
      assert.match(
        third.output(),
        /pm2 is already running in .*\.pm2 \(envoy, pid \d+; envoy-manager/,
      );
      assert.equal((await request(ports.http)).status, 200);
      assert.doesNotMatch(output(), /draining/);
    }));
});

interface Terminal {
  terminal: ChildProcess;
  output(): string;
  ports: { http: number; tcp: number };
  folder: string;
  /** Runs it once more, with the same settings. */
  again(env?: NodeJS.ProcessEnv): Pick<Terminal, 'terminal' | 'output'>;
}

/** Runs `npm start` in a real pseudo-terminal (util-linux's script), as a person would. */
async function withTerminal(
  options: { bootstrap?: string; isPortTaken?: boolean; isListenerTaken?: boolean },
  use: (terminal: Terminal) => Promise<void>,
): Promise<void> {
  const envoy = envoyBinary();
  const folder = makeFolder();
  const backend = await startBackend();
  const [http = 0, tcp = 0, serve = 0] = await freePorts(3);
  const bootstrap = join(folder.path, 'envoy.yaml');
  if (options.bootstrap) writeFileSync(bootstrap, options.bootstrap);
  else if (options.isListenerTaken) {
    writeBootstrap(bootstrap, { http: backend.httpPort, tcp }, backend);
  } else writeBootstrap(bootstrap, { http, tcp }, backend);
  const checkout = copyCheckout(folder.path);
  if (!options.bootstrap) cpSync(bootstrap, join(folder.path, 'other.yaml'));
  const servePort = options.isPortTaken ? backend.httpPort : serve;
  const start = (more: NodeJS.ProcessEnv = {}) =>
    inTerminal('exec npm start', checkout, {
      ...process.env,
      ENVOY_BIN: envoy,
      PM2_HOME: join(folder.path, 'pm2'),
      PM2_ENVOY_SERVE_PORT: String(servePort),
      PM2_ENVOY_RUN_DIR: join(folder.path, 'run'),
      PM2_ENVOY_ENVOY_CONFIG: bootstrap,
      ...more,
    });
  try {
    await use({ ...start(), ports: { http, tcp }, folder: folder.path, again: start });
  } finally {
    for (const pid of pidsWith(folder.path)) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It has ended.
      }
    }
    await backend.close();
    folder.remove();
  }
}

/** What `npm ci` leaves, in a folder with a space: each start has a pm2 of its checkout's. */
function copyCheckout(folder: string): string {
  const checkout = join(folder, 'my checkout');
  mkdirSync(checkout);
  for (const name of ['assets', 'bin', 'config', 'dist', 'ecosystem.config.js', 'package.json']) {
    cpSync(join(ROOT, name), join(checkout, name), { recursive: true });
  }
  symlinkSync(join(ROOT, 'node_modules'), join(checkout, 'node_modules'));
  return checkout;
}

function inTerminal(
  command: string,
  cwd: string,
  env: NodeJS.ProcessEnv,
): Pick<Terminal, 'terminal' | 'output'> {
  const terminal = spawn('script', ['-qefc', command, '/dev/null'], {
    cwd,
    env,
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  let text = '';
  for (const stream of [terminal.stdout, terminal.stderr]) {
    stream?.on('data', (chunk: Buffer) => {
      text += chunk;
    });
  }
  return { terminal, output: () => text };
}

async function ended(terminal: ChildProcess): Promise<void> {
  if (terminal.exitCode === null)
    await once(terminal, 'exit', { signal: AbortSignal.timeout(45_000) });
}
