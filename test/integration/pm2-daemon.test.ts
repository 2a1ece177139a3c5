import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { isPm2EnvoyError } from '../../src/errors.js';
import { openPm2Daemon, type Pm2Daemon, type Pm2Process } from '../../src/pm2/daemon.js';
import { openOwnApp } from '../../src/pm2/own-app.js';
import { makeFolder } from '../support/folder.js';
import { preparePm2, type TestPm2 } from '../support/pm2.js';
import { eventually } from '../support/wait.js';

/** Says ready immediately; told to stop, it ends once there is a file `go-NAME` in its folder. */
const APP = `
const { existsSync } = require('node:fs');
require('node:cluster').worker.exitedAfterDisconnect = true;
let stopping = false;
process.on('SIGINT', () => { stopping = true; });
setInterval(() => { if (stopping && existsSync('go-' + process.env.name)) process.exit(0); }, 20);
process.send('ready');
`;

describe('openPm2Daemon with a real pm2', () => {
  let pm2: TestPm2;
  let daemon: Pm2Daemon;
  const beganMs = Date.now();
  before(async () => {
    pm2 = await preparePm2();
    daemon = openPm2Daemon(pm2.env['PM2_HOME'] ?? '');
    await startApps(pm2, ['listed', 'restarted', 'reloaded', 'stubborn', 'removed']);
  });
  after(() => pm2.stop());

  const list = (): Promise<Pm2Process[]> => eventually('an answer', () => daemon.processes());
  const find = async (name: string): Promise<Pm2Process> =>
    (await list()).find((app) => app.name === name) ?? assert.fail(`no app ${name}`);
  /** Lets an app end that has been told to stop. */
  const letGo = (name: string): void => writeFileSync(join(pm2.folder, `go-${name}`), '');

  it('lists the apps as pm2 has them: folder, arguments, environment', async () => {
    const { pmId, pid, status, cwd, args, env, ...app } = await find('listed');
    assert.deepEqual(
      { pmId, status, cwd, args },
      { pmId: 0, status: 'online', cwd: pm2.folder, args: ['--one', 'two words'] },
    );
    assert.equal(env['OF_THE_FILE'], 'yes');
    assert.ok(process.kill(pid, 0));
    for (const ms of [app.createdAtMs, app.startedAtMs]) {
      assert.ok(beganMs <= ms && ms <= Date.now(), `${ms}, begun at ${beganMs}`);
    }
  });

  it('shows how pm2 restarts an app: its counters are reset before the process is new', async () => {
    const earlier = await find('restarted');
    const restarting = pm2.pm2('restart', 'restarted');
    const asked = await eventually('the app to be stopping', async () => {
      const now = await find('restarted');
      return now.status === 'stopping' && now;
    });
    assert.equal(asked.pid, earlier.pid);
    assert.equal(asked.startedAtMs, earlier.startedAtMs);
    assert.ok(asked.createdAtMs > earlier.startedAtMs);
    assert.deepEqual([earlier.backOffMs, asked.backOffMs], [undefined, 0]);
    letGo('restarted');
    await restarting;
    const later = await find('restarted');
    assert.ok(later.createdAtMs <= later.startedAtMs);
  });

  it('reloads with variables to change, and only the new process is listed', async () => {
    const { pmId, pid } = await find('reloaded');
    const variables = { OF_THE_FILE: 'changed', NEW: '1' };
    const reload = daemon.reload(Number(pmId), variables, 30_000);
    const { env } = await eventually('the new process', async () => {
      const now = await find('reloaded');
      return now.status === 'online' && now.pid !== pid && now;
    });
    assert.deepEqual([env['OF_THE_FILE'], env['NEW']], ['changed', '1']);
    const pids = (await list()).map((app) => app.pid);
    assert.equal(pids.includes(pid), false, 'pm2 hides the instance that it calls _old_N');
    await assert.rejects(daemon.reload(Number(pmId), {}, 5_000), /Reload already in progress/);
    letGo('reloaded');
    await reload;
    assert.throws(() => process.kill(pid, 0), { code: 'ESRCH' });
  });

  it('does not wait for a reload longer than it is told', async () => {
    const { pmId } = await find('stubborn');
    const reload = daemon.reload(Number(pmId), {}, 700);
    await rejectsWithin(reload, 10_000, /no answer to reloadProcessId within 700 ms/);
  });

  it('removes an app: it ends, and pm2 forgets it', async () => {
    const { pmId, pid } = await find('removed');
    letGo('removed');
    await daemon.remove(pmId);
    assert.equal(
      (await list()).some(({ name }) => name === 'removed'),
      false,
    );
    assert.throws(() => process.kill(pid, 0), { code: 'ESRCH' });
  });

  it('says which id pm2 does not know', async () => {
    await rejects(daemon.remove('_old_0'), /_old_0 : id unknown/);
    await rejects(daemon.remove(77), /77 : id unknown/);
    await rejects(daemon.reload(77, {}, 30_000), /PM2 ID unknown/);
  });

  it('says so once the daemon is gone, also in the middle of a call', async () => {
    const { pmId, pid } = await find('listed');
    const rejected = assert.rejects(daemon.reload(Number(pmId), {}, 30_000), /no daemon listens/);
    await eventually('the new process', async () => (await find('listed')).pid !== pid);
    process.kill(pm2.daemonPid(), 'SIGKILL');
    await rejected;
    await rejects(daemon.processes(), /no daemon listens there/);
  });
});

describe('openPm2Daemon with apps that pm2 has brought back', () => {
  let pm2: TestPm2;
  before(async () => {
    pm2 = await preparePm2();
    pm2.env['OF_THE_SHELL'] = 'yes';
  });
  after(() => pm2.stop());

  it('shows the variables of the shell, as the app has them, also once its file was reloaded', async () => {
    await startApps(pm2, ['back']);
    writeFileSync(join(pm2.folder, 'go-back'), '');
    for (const words of [['save'], ['kill'], ['resurrect'], ['reload', ecosystemOf(pm2)]]) {
      await pm2.pm2(...words);
    }
    const [app] = await openPm2Daemon(pm2.env['PM2_HOME'] ?? '').processes();
    assert.ok(app);
    assert.match(readFileSync(`/proc/${app.pid}/environ`, 'utf8'), /OF_THE_SHELL=yes/);
    assert.deepEqual([app.env['OF_THE_SHELL'], app.env['OF_THE_FILE']], ['yes', 'yes']);
    assert.equal(typeof app.env['PATH'], 'string');
  });
});

describe('openPm2Daemon where there is no pm2', { concurrency: 4 }, () => {
  it('says so immediately without a folder, and starts none', () =>
    withFolder(async (folder) => {
      const daemon = openPm2Daemon(join(folder, 'nowhere'));
      await rejects(daemon.processes(), /nowhere\/rpc\.sock: no daemon listens there/);
      await rejects(daemon.remove(0), /no daemon listens there/);
    }));

  it('says so for the socket that a killed daemon has left', () =>
    withFolder(async (folder) => {
      const path = join(folder, 'rpc.sock');
      const program = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`;
      await once(spawn(process.execPath, ['-e', program], { stdio: 'ignore' }), 'exit');
      await rejects(
        openPm2Daemon(folder).processes(),
        /no daemon listens there: is pm2 running, and is this its PM2_HOME\?/,
      );
    }));

  it('gives one up that accepts and never answers', () =>
    withServer(
      () => undefined,
      async (folder) => {
        const daemon = openPm2Daemon(folder);
        await rejectsWithin(
          daemon.processes(),
          10_000,
          /no answer to getMonitorData within 2000 ms/,
        );
        await rejectsWithin(daemon.reload(0, {}, 300), 10_000, /no answer .* within 300 ms/);
      },
    ));

  it('takes a daemon that never answers for a stop', () =>
    withServer(
      () => undefined,
      async (folder) => {
        const app = openOwnApp({ env: { pm_id: '0', PM2_HOME: folder } });
        const fromMs = performance.now();
        const removed = app.removeReplaced();
        const answers = await Promise.all([app.stopIntent(Date.now()), app.isWanted()]);
        assert.deepEqual(answers, ['stop', false]);
        assert.ok(performance.now() - fromMs < 10_000);
        // An old instance may take its time to end.
        assert.equal(await removed, false);
      },
    ));

  for (const [what, answer] of [
    ['that hangs up', (socket: Socket) => void socket.end()],
    ['that speaks HTTP', (socket: Socket) => void socket.end('HTTP/1.1 400 Bad Request\r\n\r\n')],
    ['that sends zeros', (socket: Socket) => void socket.write(Buffer.alloc(64))],
  ] as const) {
    it(`gives up one ${what}`, () =>
      withServer(answer, (folder) =>
        rejectsWithin(openPm2Daemon(folder).processes(), 10_000, /no answer|no daemon/),
      ));
  }
});

const UNKNOWN = {
  pmId: -1,
  name: '',
  pid: 0,
  status: 'unknown',
  createdAtMs: 0,
  restarts: 0,
  backOffMs: undefined,
  startedAtMs: 0,
  script: '',
  cwd: '',
  env: {},
  givenEnv: {},
  args: [],
  settings: {
    autorestart: true,
    execMode: undefined,
    waitReady: false,
    killTimeoutMs: undefined,
    listenTimeoutMs: undefined,
    treekill: true,
    pmx: true,
    stopExitCodes: [],
  },
};

describe('openPm2Daemon with answers that pm2 does not give', { concurrency: 2 }, () => {
  for (const [what, list, found] of [
    ['no list', { nonsense: true }, []],
    ['null', null, []],
    ['an empty list', [], []],
    ['an app of which nothing is known', [{}], [UNKNOWN]],
    ['a list with something else in it', [null, 5, {}], [UNKNOWN]],
  ] as const) {
    it(`makes the best of ${what}`, () =>
      withAnswer(list, async (folder) => {
        assert.deepEqual(await openPm2Daemon(folder).processes(), found);
      }));
  }
});

/** Starts apps in cluster mode, as the runner is; no Envoy. */
async function startApps(pm2: TestPm2, names: readonly string[]): Promise<void> {
  const script = join(pm2.folder, 'app.cjs');
  writeFileSync(script, APP);
  const apps = names.map((name) => ({
    ...{ name, script, cwd: pm2.folder, args: ['--one', 'two words'] },
    ...{ exec_mode: 'cluster', instances: 1, wait_ready: true, listen_timeout: 20_000 },
    ...{ kill_timeout: 20_000, treekill: false, pmx: false, env: { OF_THE_FILE: 'yes' } },
  }));
  writeFileSync(ecosystemOf(pm2), JSON.stringify({ apps }));
  await pm2.pm2('start', ecosystemOf(pm2));
}

function ecosystemOf(pm2: TestPm2): string {
  return join(pm2.folder, 'ecosystem.config.json');
}

async function withFolder(use: (folder: string) => Promise<void>): Promise<void> {
  const folder = makeFolder();
  try {
    await use(folder.path);
  } finally {
    folder.remove();
  }
}

/** Something that listens where pm2's daemon would. */
async function withServer(
  onConnect: (socket: Socket) => void,
  use: (folder: string) => Promise<void>,
): Promise<void> {
  await withFolder(async (folder) => {
    const open = new Set<Socket>();
    const server = createServer((socket) => {
      open.add(socket);
      socket.on('error', () => undefined);
      socket.on('data', () => undefined);
      onConnect(socket);
    });
    server.listen(join(folder, 'rpc.sock'));
    await once(server, 'listening');
    try {
      await use(folder);
    } finally {
      for (const socket of open) socket.destroy();
      server.close();
    }
  });
}

/** A daemon that gives one answer to everything, in pm2's own protocol. */
async function withAnswer(answer: unknown, use: (folder: string) => Promise<void>): Promise<void> {
  const require = createRequire(import.meta.url);
  await withFolder(async (folder) => {
    const socket = require('pm2/modules/pm2-axon').socket('rep');
    const { Server } = require('pm2/modules/pm2-axon-rpc');
    new Server(socket).expose({
      getMonitorData: (_: unknown, done: (error: null, result: unknown) => void) =>
        done(null, answer),
    });
    socket.bind(join(folder, 'rpc.sock'));
    await once(socket, 'bind');
    try {
      await use(folder);
    } finally {
      socket.close();
    }
  });
}

async function rejects(call: Promise<unknown>, says: RegExp): Promise<void> {
  await assert.rejects(call, (error: unknown) => {
    assert.ok(isPm2EnvoyError(error, 'pm2-unreachable'), String(error));
    assert.match(error.message, says);
    return true;
  });
}

async function rejectsWithin(call: Promise<unknown>, limitMs: number, says: RegExp): Promise<void> {
  const fromMs = performance.now();
  await rejects(call, says);
  const tookMs = performance.now() - fromMs;
  assert.ok(tookMs < limitMs, `it took ${Math.round(tookMs)} ms`);
}
