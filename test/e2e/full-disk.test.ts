import assert from 'node:assert/strict';
import { type ExecFileException, execFile, execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { promisify } from 'node:util';
import { isAttended, openGenerations } from '../../src/host/generations.js';
import { request } from '../support/clients.js';
import { writeEcosystem } from '../support/ecosystem.js';
import { envoyBinary } from '../support/envoy.js';
import { withHost } from '../support/host.js';
import { requestsOneByOne } from '../support/one-by-one.js';
import { pidsWith, statusOf, type TestPm2, withPm2 } from '../support/pm2.js';
import { appShown } from '../support/pm2-shows.js';
import { patiently } from '../support/wait.js';

const PM2 = createRequire(import.meta.url).resolve('pm2/bin/pm2');
const CLI = join(import.meta.dirname, '../../bin/pm2-envoy.js');
const AS_ROOT = process.getuid?.() === 0;

describe('a disk of the run directory that is really full', { concurrency: 2 }, () => {
  it('at a start: the runner says so and ends, and no Envoy is left', () =>
    withHost({}, async (host) => {
      const wrapper = onSmallDisk(host.runDir, fill(host.runDir));
      const runner = await host.startApp('runner', { wrapper });
      assert.equal(await runner.exited, 1, runner.output());
      assert.match(
        runner.output(),
        /generation 1 has no folder of its own \(ENOSPC.*\): is there room on the disk of/,
      );
      assert.deepEqual(pidsWith(`${host.runDir}/generations`), []);
    }));

  it('from the moment in which Envoy starts: it is ended, for nobody would find it', () =>
    withHost({}, async (host) => {
      const binary = join(host.folder, 'filling-envoy');
      writeFileSync(
        binary,
        `#!/bin/sh\ncase "$*" in *--mode*|*--version*) ;; *) ${fill(host.runDir)} ;; esac\nexec '${envoyBinary()}' "$@"\n`,
      );
      chmodSync(binary, 0o755);
      const wrapper = onSmallDisk(host.runDir, ':');
      const runner = await host.startApp('runner', { wrapper, env: { ENVOY_BIN: binary } });
      assert.equal(await runner.exited, 1, runner.output());
      assert.match(
        runner.output(),
        /generation 1 can't be recorded \(ENOSPC.*\), so its Envoy is not kept: is there room/,
      );
      assert.deepEqual(pidsWith(`${host.runDir}/generations`), []);
    }));

  it('under pm2: a drain is cancelled, a reload fails, a drain ends, nothing is lost, and all is well with room', (t) =>
    withPm2(
      // Long enough to cancel a drain in it, and waited for in another.
      { 'check-delay': '8s' },
      async (pm2) => {
        const disk = await startOnSmallDisk(pm2);
        const load = requestsOneByOne(pm2.ports.http, 5);
        t.after(load.stop);

        disk.fill();
        const cancelled = pm2.http('POST', '/shutdown');
        await patiently('the delay', async () => (await statusOf(pm2)).phase === 'delay');
        const resumed = await pm2.http('DELETE', '/shutdown');
        assert.deepEqual([resumed.status, (await cancelled).status], [200, 409], resumed.body);
        assert.equal((await pm2.http('GET', '/readyz')).status, 200);

        const first = disk.generations()[0] ?? assert.fail('no generation');
        const reload = pm2.pm2('reload', 'envoy').catch(() => undefined);
        await patiently('the new runner to fail', () =>
          /generation 1 goes on without this runner.*\(ENOSPC/.test(pm2.log('envoy')),
        );
        await reload;
        assert.equal((await pm2.http('GET', '/readyz')).status, 200);
        assert.deepEqual(disk.generations()[0]?.envoy, first.envoy);

        disk.free();
        await patiently('one generation with a runner', () => {
          const [only, ...more] = disk.generations();
          return more.length === 0 && only && only.ready && isAttended(only);
        });
        await patiently('the host', async () => (await pm2.http('GET', '/readyz')).status === 200);
        assert.deepEqual(await load.stop(), []);

        disk.fill();
        const { code, stderr } = await disk.cli('redeploy');
        assert.equal(code, 1);
        assert.match(stderr, /can't take a new generation \(ENOSPC.*make room there/);
        assert.match((await disk.cli('doctor')).stdout, /PROBLEM run-dir .*ENOSPC/);
        const { status, body } = await pm2.http('POST', '/shutdown');
        assert.deepEqual([status, JSON.parse(body).outcome], [200, 'drained'], body);
        await assert.rejects(request(pm2.ports.http), /ECONNREFUSED/);
        assert.equal((await pm2.http('GET', '/readyz')).status, 503);
        assert.equal((await pm2.http('DELETE', '/shutdown')).status, 409);
        disk.free();
        await patiently('the drain to be recorded', () =>
          /the drain of \S+ is recorded now/.test(pm2.log('envoy-manager')),
        );
        const drained = disk.generations()[0] ?? assert.fail('no generation');
        process.kill(drained.envoy.pid, 'SIGKILL');
        // pm2 has to know that it is ready: it can't restart one that is not.
        await patiently('the next runner', async () => {
          const { pid, status } = await appShown(pm2, 'envoy');
          return status === 'online' && pid !== drained.runner.pid;
        });
        const after = await pm2.http('GET', '/readyz');
        assert.deepEqual([after.status, JSON.parse(after.body).error.code], [503, 'drained']);
        await assert.rejects(request(pm2.ports.http), /ECONNREFUSED/);
        await pm2.pm2('restart', 'envoy');
        await pm2.untilReady();
        assert.equal((await request(pm2.ports.http)).status, 200);
      },
      false,
    ));

  it('from the delay of a drain on: cancelled it stays so, also for the next manager', () =>
    withPm2(
      { 'check-delay': '30s', 'drain-timeout': '60s' },
      async (pm2) => {
        const disk = await startOnSmallDisk(pm2);
        const cancelled = pm2.http('POST', '/shutdown');
        await patiently('the delay', async () => (await statusOf(pm2)).phase === 'delay');
        disk.fill();
        const resumed = await pm2.http('DELETE', '/shutdown');
        assert.deepEqual([resumed.status, (await cancelled).status], [200, 409], resumed.body);
        assert.equal((await pm2.http('GET', '/readyz')).status, 200);

        const manager = await appShown(pm2, 'envoy-manager');
        process.kill(manager.pid, 'SIGKILL');
        await patiently('the next manager to find out', () =>
          /was cancelled: Envoy passes its health check/.test(pm2.log('envoy-manager')),
        );
        await pm2.untilReady();
        assert.equal((await request(pm2.ports.http)).status, 200);

        disk.free();
        await patiently('the result to be recorded', () =>
          disk.drains().includes('host-1.result.json'),
        );
        assert.equal((await pm2.http('GET', '/readyz')).status, 200);
        assert.equal((await statusOf(pm2)).phase, 'idle');
      },
      false,
    ));
});

/** The shell command that leaves no room in a folder. */
function fill(folder: string): string {
  return `{ cat /dev/zero >'${folder}/fill' 2>/dev/null; :; }`;
}

/** Runs a command where a folder is a small file system of its own, after a shell command there. */
function onSmallDisk(folder: string, before: string): string[] {
  const mount = `mount -t tmpfs -o size=256k,mode=700 tmpfs '${folder}'`;
  const asUser = AS_ROOT ? [] : ['--user', '--map-root-user'];
  const script = `${mount} && ${before} && exec "$@"`;
  return ['unshare', ...asUser, '--mount', 'sh', '-c', script, 'sh'];
}

interface SmallDisk {
  fill(): void;
  free(): void;
  /** Runs the command line where the apps run. */
  cli(command: string): Promise<{ code: number; stdout: string; stderr: string }>;
  /** As the apps see them. */
  generations(): ReturnType<ReturnType<typeof openGenerations>['live']>;
  /** The files of the host's drains. */
  drains(): string[];
}

interface Ran {
  error: ExecFileException | null;
  stdout: string;
  stderr: string;
}

/** Starts pm2's daemon, and all that it starts, where the run directory is on a small disk. */
async function startOnSmallDisk(pm2: TestPm2): Promise<SmallDisk> {
  const runDir = join(pm2.folder, 'run');
  mkdirSync(runDir, { mode: 0o700 });
  const apps = 'envoyApps().map((app) => ({ ...app, listen_timeout: 5_000 }))';
  const [command = '', ...args] = [
    ...onSmallDisk(runDir, ':'),
    ...[process.execPath, PM2, 'start', writeEcosystem(pm2.folder, apps)],
  ];
  await promisify(execFile)(command, args, { env: pm2.env, cwd: pm2.folder, timeout: 60_000 });
  await pm2.untilReady();
  const daemon = pm2.daemonPid();
  const asUser = AS_ROOT ? [] : ['--user', '--preserve-credentials'];
  const nsenter = ['--target', String(daemon), ...asUser];
  const inside = (script: string): void => {
    execFileSync('nsenter', [...nsenter, '--mount', 'sh', '-c', script]);
  };
  const there = `/proc/${daemon}/root${runDir}`;
  const seen = openGenerations(there);
  return {
    fill: () => inside(fill(runDir)),
    cli: async (command) => {
      const words = [...nsenter, '--mount', process.execPath, CLI, command];
      const { error, stdout, stderr } = await new Promise<Ran>((resolve) => {
        const options = { env: pm2.env, cwd: pm2.folder, timeout: 60_000 };
        execFile('nsenter', words, options, (error, stdout, stderr) =>
          resolve({ error, stdout, stderr }),
        );
      });
      return { code: error ? Number(error.code) : 0, stdout, stderr };
    },
    free: () => inside(`rm -f '${runDir}/fill'`),
    generations: seen.live,
    drains: () => readdirSync(join(there, 'drains')),
  };
}
