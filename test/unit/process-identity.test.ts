import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import {
  conditionOf,
  findByCommandLine,
  identify,
  isAlive,
  ownIdentity,
  type ProcessIdentity,
  sameProcess,
  signalProcess,
} from '../../src/host/process-identity.js';
import { eventually } from '../support/wait.js';
import { makeTempFolder, reaches } from './fakes.js';

const children: ChildProcess[] = [];
after(() => {
  for (const child of children) child.kill('SIGKILL');
});

async function start(
  command = 'sleep',
  args: string[] = ['60'],
  argv0?: string,
): Promise<{ child: ChildProcess; identity: ProcessIdentity }> {
  const child = spawn(command, args, { stdio: 'ignore', ...(argv0 ? { argv0 } : {}) });
  children.push(child);
  await once(child, 'spawn');
  return { child, identity: identify(child.pid ?? 0) ?? assert.fail('it is not there') };
}

async function end(child: ChildProcess): Promise<void> {
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
}

describe('identify', () => {
  it('names a process the same each time', async () => {
    const { child, identity } = await start();
    assert.equal(identity.pid, child.pid);
    assert.deepEqual(identify(identity.pid), identity);
  });

  it('knows no one under a pid that is free or no pid', async () => {
    const { child, identity } = await start();
    await end(child);
    assert.equal(identify(identity.pid), undefined);
    for (const pid of [0, -1, 2 ** 30, Number.NaN]) assert.equal(identify(pid), undefined);
  });

  it('knows a process whose first thread alone has ended: its sockets are open still', async () => {
    const script = [
      'import ctypes, threading, time',
      'threading.Thread(target=time.sleep, args=(60,)).start()',
      'ctypes.CDLL(None).pthread_exit(None)',
    ].join('; ');
    const { child, identity } = await start('python3', ['-c', script]);
    const stat = `/proc/${identity.pid}/stat`;
    await eventually('the first thread to end', () => / Z /.test(readFileSync(stat, 'utf8')));
    assert.equal(conditionOf(identity), 'running');
    assert.deepEqual(identify(identity.pid), identity);
    await end(child);
    assert.equal(isAlive(identity), false);
  });

  it('is not misled by spaces and parentheses in the name of a command', async () => {
    const link = join(makeTempFolder(), 'a) Z 1 (b');
    symlinkSync('/bin/sleep', link);
    const { identity } = await start(link, ['60'], 'sleep');
    assert.equal(conditionOf(identity), 'running');
    assert.match(identity.startTime, /\d{3,}$/);
    assert.notEqual(identity.startTime, ownIdentity().startTime);
  });
});

describe('ownIdentity', () => {
  it('is this process, which is running', () => {
    assert.equal(ownIdentity().pid, process.pid);
    assert.ok(sameProcess(ownIdentity(), identify(process.pid)));
    assert.equal(conditionOf(ownIdentity()), 'running');
  });
});

describe('conditionOf', () => {
  it('tells a stopped process from a running one', async () => {
    const { child, identity } = await start();
    assert.equal(conditionOf(identity), 'running');
    child.kill('SIGSTOP');
    await reaches('stopped', () => conditionOf(identity) === 'stopped');
    assert.equal(isAlive(identity), true);
    child.kill('SIGCONT');
    await reaches('running', () => conditionOf(identity) === 'running');
  });

  it('is dead once the process has ended', async () => {
    const { child, identity } = await start();
    await end(child);
    assert.equal(conditionOf(identity), 'dead');
    assert.equal(isAlive(identity), false);
  });

  it('is dead for another process that has the pid now', () => {
    assert.equal(conditionOf({ ...ownIdentity(), startTime: 'earlier' }), 'dead');
    assert.equal(conditionOf({ ...ownIdentity(), startTime: '' }), 'dead');
  });

  it('is dead for a zombie, which no one has waited for', async () => {
    // The shell turns into a sleep that never waits for the child it inherits.
    const parent = spawn('sh', ['-c', 'sleep 0.05 & echo $!; exec sleep 60']);
    children.push(parent);
    const [printed] = await once(parent.stdout, 'data');
    const pid = Number(String(printed));
    await reaches('a zombie', () => identify(pid) === undefined);
    process.kill(pid, 0);
  });
});

describe('sameProcess', () => {
  it('needs both the pid and the start', () => {
    const one = { pid: 5, startTime: 'a' };
    assert.equal(sameProcess(one, { ...one }), true);
    assert.equal(sameProcess(one, { ...one, pid: 6 }), false);
    assert.equal(sameProcess(one, { ...one, startTime: 'b' }), false);
  });

  it('does not take two unknown ones for the same', () => {
    assert.equal(sameProcess(undefined, undefined), false);
    assert.equal(sameProcess(ownIdentity(), undefined), false);
    assert.equal(sameProcess(undefined, ownIdentity()), false);
  });
});

describe('signalProcess', () => {
  it('signals exactly this process and says so', async () => {
    const { child, identity } = await start();
    const ended = once(child, 'exit');
    assert.equal(signalProcess(identity, 'SIGTERM'), true);
    assert.deepEqual(await ended, [null, 'SIGTERM']);
    assert.equal(signalProcess(identity, 'SIGTERM'), false);
  });

  it('spares another process that has the pid now', async () => {
    const { child, identity } = await start();
    assert.equal(signalProcess({ ...identity, startTime: 'earlier' }, 'SIGKILL'), false);
    assert.equal(conditionOf(identity), 'running');
    assert.equal(child.signalCode, null);
  });
});

describe('findByCommandLine', () => {
  it('finds the process that has the text among its arguments', async () => {
    const text = `pm2-envoy-find-${process.pid}`;
    assert.equal(findByCommandLine(text), undefined);
    const { child, identity } = await start('sleep', ['60'], `sleep ${text}`);
    assert.deepEqual(findByCommandLine(text), identity);
    await end(child);
    assert.equal(findByCommandLine(text), undefined);
  });

  it('does not find the process that asks', () => {
    assert.notEqual(findByCommandLine('process-identity.test')?.pid, process.pid);
  });
});

describe('a process without a free file descriptor', () => {
  it('takes no one for dead that exists, and knows who it is itself', () => {
    const script = `
      import { openSync } from 'node:fs';
      import { identify, isAlive, ownIdentity } from ${JSON.stringify(import.meta.resolve('../../src/host/process-identity.ts'))};
      const parent = identify(process.ppid);
      const own = ownIdentity();
      try { for (;;) openSync('/dev/null'); } catch {}
      const gone = { ...parent, pid: 2 ** 22 + 1 };
      process.stdout.write(JSON.stringify([isAlive(parent), isAlive(gone), ownIdentity().startTime === own.startTime]));
    `;
    const file = join(makeTempFolder(), 'full.mts');
    writeFileSync(file, script);
    const command = ['ulimit -n 64; exec "$@"', 'sh', process.execPath, '--import', 'tsx', file];
    const output = execFileSync('sh', ['-c', ...command], { encoding: 'utf8', timeout: 60_000 });
    assert.deepEqual(JSON.parse(output), [true, false, true]);
  });
});
