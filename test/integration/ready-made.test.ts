import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, it, type TestContext } from 'node:test';
import { loadConfig } from '../../src/config/load.js';
import type { DrainSteps } from '../../src/drain/run.js';
import { identify } from '../../src/host/process-identity.js';
import { DrainPlugin } from '../../src/plugins/drain-plugin.js';
import { createPluginHost } from '../../src/plugins/host.js';
import { loadPlugins } from '../../src/plugins/load.js';
import { stubDrain } from '../support/drain.js';
import { makeFolder } from '../support/folder.js';
import { eventually } from '../support/wait.js';
import { startWebhookServer } from '../support/webhooks.js';
import { createFakeLog } from '../unit/fakes.js';

const ROOT = resolve(import.meta.dirname, '../..');
const EVENT = 'before:shutdown:fail-health';
const SECRET = 'tell-nobody-42';

/** A host whose drains call one of the ready-made plugins. */
async function hostWith(path: string, hooks: Readonly<Record<string, unknown>>) {
  const { config } = loadConfig({ env: {}, cwd: '/nowhere' });
  const fakeLog = createFakeLog();
  const own = { name: 'drain', create: DrainPlugin, options: {}, builtIn: true };
  const loaded = await loadPlugins([{ path, options: { hooks } }]);
  const host = createPluginHost({ config, log: fakeLog.log, plugins: [own, ...loaded] });
  return {
    host,
    fakeLog,
    drain: async (drain: DrainSteps = stubDrain()) => {
      await host.run('shutdown', { drain });
      await host.settled();
    },
    /** Everything that was logged, not the messages alone. */
    said: () => JSON.stringify(fakeLog.entries),
  };
}

/** Runs one command as a hook that a drain waits for; `$OUT` is a file, whose content is returned. */
async function runOne(t: TestContext, run: unknown, more: Readonly<Record<string, unknown>> = {}) {
  const folder = makeFolder();
  t.after(folder.remove);
  const out = join(folder.path, 'out');
  process.env['OUT'] = out;
  const made = await hostWith('pm2-envoy/command', { [EVENT]: { run, required: true, ...more } });
  const startedMs = performance.now();
  await made.drain();
  const tookMs = performance.now() - startedMs;
  return { ...made, tookMs, out: () => (existsSync(out) ? readFileSync(out, 'utf8') : '') };
}

const isGone = (pid: number): boolean => identify(pid) === undefined;
const pidsIn = (text: string): number[] => text.trim().split(/\s+/).map(Number);

describe('pm2-envoy/command', () => {
  afterEach(() => {
    for (const name of ['OUT', 'PM2_ENVOY_SHUTDOWN_TOKEN', 'READY_MADE']) delete process.env[name];
  });

  it('gives a command our environment without the token, and what the drain has to say', async (t) => {
    process.env['PM2_ENVOY_SHUTDOWN_TOKEN'] = SECRET;
    process.env['READY_MADE'] = 'inherited';
    const { out, host } = await runOne(t, 'env > "$OUT"');
    const env = Object.fromEntries(
      out()
        .split('\n')
        .map((line) => line.split(/=(.*)/s).slice(0, 2)),
    );
    const ofDrain = Object.entries(env).filter(([name]) => name.startsWith('DRAIN_'));
    assert.deepEqual(Object.fromEntries(ofDrain), {
      DRAIN_COMMAND: 'shutdown',
      DRAIN_EVENT: 'fail-health',
      DRAIN_HOOK: EVENT,
      DRAIN_STARTED_AT: '1970-01-01T00:00:00.000Z',
      DRAIN_TIME_LEFT_MS: '60000',
      DRAIN_CONNECTIONS_AT_START: '1',
      DRAIN_CONNECTIONS_LEFT: '0',
      DRAIN_OUTCOME: '',
    });
    assert.equal(env['READY_MADE'], 'inherited');
    assert.ok(!out().includes(SECRET));
    assert.equal(host.failures.size, 0);
  });

  it('leaves empty what is not known, and all of it where there is no drain', async (t) => {
    const folder = makeFolder();
    t.after(folder.remove);
    process.env['OUT'] = join(folder.path, 'out');
    const { host } = await hostWith('pm2-envoy/command', {
      'start:live':
        'echo "$DRAIN_HOOK/$DRAIN_STARTED_AT/$DRAIN_TIME_LEFT_MS/$DRAIN_OUTCOME" > "$OUT"',
    });
    await host.run('start', { goesOn: true });
    await host.settled();
    assert.equal(readFileSync(process.env['OUT'], 'utf8'), 'start:live///\n');
  });

  it('runs a list directly, without a shell', async (t) => {
    const list = [
      process.execPath,
      '-e',
      'fs.writeFileSync(process.env.OUT, process.argv[1])',
      '$HOME; *',
    ];
    assert.equal((await runOne(t, list)).out(), '$HOME; *');
  });

  it('logs its output and how it ended, with the hook', async (t) => {
    const { fakeLog, said } = await runOne(t, 'echo one; echo two >&2; echo; printf three');
    assert.deepEqual(fakeLog.of('info').slice(0, -1).sort(), ['one', 'three', 'two']);
    assert.match(fakeLog.of('info').at(-1) ?? '', /^echo one; .* exited with code 0 after \d+ ms$/);
    assert.ok(said().includes(`"hook":"${EVENT}","stream":"stderr"`));
  });

  const failing: readonly [string, unknown, RegExp][] = [
    [
      'exits with another code than 0',
      'echo first >&2; exit 3',
      / exited with code 3 after \d+ ms \| first$/,
    ],
    [
      'has said much on stderr',
      'echo ignored; for i in 1 2 3 4 5; do echo "line $i" >&2; done; exit 1',
      /code 1 after \d+ ms \| line 3 \| line 4 \| line 5$/,
    ],
    ['is ended by a signal', 'kill -9 $$', /kill -9 \$\$ ended by SIGKILL after \d+ ms$/],
    [
      'is not there',
      ['/no/such/program', 'web-1'],
      /\/no\/such\/program web-1 can't be started: ENOENT$/,
    ],
    ['may not be run', ['/dev/null'], /\/dev\/null can't be started: EACCES$/],
    ['is not there for the shell', 'no-such-program', /exited with code 127 after .*not found/],
  ];
  for (const [how, run, message] of failing) {
    it(`counts and logs a command that ${how}, and the drain continues`, async (t) => {
      const { host, fakeLog } = await runOne(t, run);
      assert.deepEqual([...host.failures], [[EVENT, 1]]);
      const [error = ''] = fakeLog.of('error');
      assert.ok(error.startsWith(`hook ${EVENT} of plugin pm2-envoy/command failed: `), error);
      assert.match(error, message);
    });
  }

  it('bounds what it logs: lines in number and length', async (t) => {
    const { fakeLog, host } = await runOne(
      t,
      'head -c 3000000 /dev/zero | tr "\\0" x; echo; seq 1 5000; printf "a\\033[31mb" >&2',
    );
    assert.equal(host.failures.size, 0);
    const lines = fakeLog.of('info');
    assert.ok(lines.length <= 101, `${lines.length} lines`);
    assert.ok(lines.every((line) => line.length <= 1_000 && !line.includes('\u001b')));
    assert.match(fakeLog.of('warn').join(), /further output is not logged/);
  });

  it('ends the whole process group at the time limit, what ignores SIGTERM too', async (t) => {
    const { out, fakeLog, tookMs, host } = await runOne(
      t,
      'trap "" TERM; sleep 61 & echo $! > "$OUT"; (trap "" TERM; sleep 62; sleep 63) & echo $! >> "$OUT"; echo $$ >> "$OUT"; sleep 64; sleep 65',
      { timeout: '3s' },
    );
    assert.ok(tookMs >= 3_000 && tookMs < 30_000, `the drain waited ${tookMs} ms`);
    assert.deepEqual([...host.failures], [[EVENT, 1]]);
    assert.match(
      fakeLog.of('error')[0] ?? '',
      /plugin pm2-envoy\/command did not end within 3000 ms/,
    );
    const pids = pidsIn(out());
    assert.equal(pids.length, 3);
    await eventually('all to be gone', () => pids.every(isGone));
  });

  it('leaves SIGKILL to those that need it: SIGTERM comes first', async (t) => {
    const { out } = await runOne(t, 'trap "echo told > $OUT; exit" TERM; sleep 60 & wait', {
      timeout: '3s',
    });
    await eventually('the trap', () => out() === 'told\n');
  });

  it('does not wait for what a command leaves in the background', async (t) => {
    const { out, host } = await runOne(t, 'sleep 60 & echo $! > "$OUT"');
    assert.equal(host.failures.size, 0);
    const [pid = 0] = pidsIn(out());
    assert.ok(!isGone(pid));
    process.kill(pid, 'SIGKILL');
  });

  for (const [how, end, expected] of [
    ['exits', 'process.exit(7)', 7],
    ['is ended by SIGINT', "process.kill(process.pid, 'SIGINT')", 'SIGINT'],
    ['is ended by SIGTERM', "process.kill(process.pid, 'SIGTERM')", 'SIGTERM'],
  ] as const) {
    it(`leaves no process when ours ${how} meanwhile`, async (t) => {
      const folder = makeFolder();
      t.after(folder.remove);
      const out = join(folder.path, 'out');
      const script = join(folder.path, 'main.mjs');
      writeFileSync(
        script,
        `import { existsSync } from 'node:fs';
        import { CommandPlugin } from ${JSON.stringify(join(ROOT, 'dist/plugins/ready-made/command.js'))};
        const { hooks } = new CommandPlugin({}, { hooks: { x: 'trap "" TERM; sleep 60 & echo $! $$ > "$OUT.new"; mv "$OUT.new" "$OUT"; wait' } });
        const log = { info() {}, warn() {} };
        void hooks.x.run({ command: 'x', event: 'x', log, signal: new AbortController().signal });
        const timer = setInterval(() => {
          if (!existsSync(process.env.OUT)) return;
          clearInterval(timer);
          ${end};
        }, 10);`,
      );
      const env = { ...process.env, OUT: out };
      const ended = spawnSync(process.execPath, [script], { env, encoding: 'utf8' });
      assert.equal(ended.signal ?? ended.status, expected, ended.stderr);
      const pids = pidsIn(readFileSync(out, 'utf8'));
      assert.equal(pids.length, 2);
      t.after(() => {
        for (const pid of pids) if (!isGone(pid)) process.kill(pid, 'SIGKILL');
      });
      await eventually('both to be gone', () => pids.every(isGone));
    });
  }

  it('outlives a signal that someone else listens to', async (t) => {
    const ignore = (): void => undefined;
    process.on('SIGINT', ignore);
    t.after(() => process.off('SIGINT', ignore));
    const run = `kill -INT ${process.pid}; sleep 0.3; echo alive > "$OUT"`;
    const { out, host } = await runOne(t, run);
    assert.equal(out(), 'alive\n');
    assert.equal(host.failures.size, 0);
  });

  it('can be imported by its name, and so can the other one', () => {
    const script = `
      const { CommandPlugin } = await import('pm2-envoy/command');
      const { WebhookPlugin } = await import('pm2-envoy/webhook');
      console.log(CommandPlugin.name, WebhookPlugin.name);`;
    const args = ['--input-type=module', '-e', script];
    const said = execFileSync(process.execPath, args, { cwd: ROOT, encoding: 'utf8' });
    assert.equal(said, 'CommandPlugin WebhookPlugin\n');
  });
});

/** Calls one webhook in a hook that a drain waits for. */
async function callOne(
  t: TestContext,
  hook: Readonly<Record<string, unknown>> & { path?: string },
  answer?: (response: ServerResponse, count: number) => void,
) {
  const server = await startWebhookServer(answer);
  t.after(server.close);
  const { path = '', ...settings } = hook;
  const url = `${server.url}${path}`;
  const made = await hostWith('pm2-envoy/webhook', {
    [EVENT]: { url, required: true, ...settings },
  });
  const startedMs = performance.now();
  await made.drain();
  return { ...made, server, tookMs: performance.now() - startedMs };
}

const PROXIES = [
  'HTTP_PROXY',
  'http_proxy',
  'HTTPS_PROXY',
  'https_proxy',
  'ALL_PROXY',
  'all_proxy',
];

describe('pm2-envoy/webhook', () => {
  const kept = { ...process.env };
  beforeEach(() => {
    for (const name of PROXIES) delete process.env[name];
    process.env['READY_MADE_SECRET'] = SECRET;
  });
  afterEach(() => {
    for (const name of [...PROXIES, 'READY_MADE_SECRET']) delete process.env[name];
    Object.assign(process.env, kept);
  });

  it('posts what the drain has to say', async (t) => {
    const { server, host, fakeLog } = await callOne(t, { path: '/hosts/web-1' });
    const [{ method, url, headers, body } = assert.fail()] = server.calls;
    assert.deepEqual(
      [method, url, headers['content-type']],
      ['POST', '/hosts/web-1', 'application/json'],
    );
    assert.match(headers['user-agent'] ?? '', /^pm2-envoy\/\d/);
    const { at, host: name, ...rest } = body as Record<string, unknown>;
    assert.ok(Math.abs(Date.parse(String(at)) - Date.now()) < 60_000);
    assert.equal(name, execFileSync('hostname', { encoding: 'utf8' }).trim());
    assert.deepEqual(rest, {
      hook: EVENT,
      command: 'shutdown',
      event: 'fail-health',
      drain: {
        startedAt: '1970-01-01T00:00:00.000Z',
        timeLeftMs: 60_000,
        connectionsAtStart: 1,
        connectionsLeft: 0,
        outcome: null,
      },
    });
    assert.equal(host.failures.size, 0);
    assert.deepEqual(fakeLog.of('info'), [`POST ${server.url}/hosts/web-1 returned 200`]);
  });

  it('has no drain to speak of when a generation starts', async (t) => {
    const server = await startWebhookServer();
    t.after(server.close);
    const { host } = await hostWith('pm2-envoy/webhook', { 'start:live': server.url });
    await host.run('start', { goesOn: true });
    await host.settled();
    const body = server.calls[0]?.body as Record<string, unknown>;
    assert.deepEqual([body['hook'], body['drain']], ['start:live', null]);
  });

  for (const method of ['GET', 'DELETE']) {
    it(`sends no body with ${method} unless there is one of its own`, async (t) => {
      const { server } = await callOne(t, { method });
      assert.deepEqual([server.calls[0]?.method, server.calls[0]?.body], [method, undefined]);
      assert.equal(server.calls[0]?.headers['content-type'], undefined);
      const body = { weight: 0 };
      const { server: other } = await callOne(t, { method, body });
      assert.deepEqual(other.calls[0]?.body, body);
    });
  }

  it('fills in variables in URL, headers and body, and tells no one of them', async (t) => {
    process.env['READY_MADE_SECRET'] = SECRET;
    const { server, said, host } = await callOne(t, {
      path: `/\${READY_MADE_SECRET}?token=\${READY_MADE_SECRET}#x`,
      headers: { Authorization: `Bearer \${READY_MADE_SECRET}`, 'content-type': 'text/x' },
      body: [`\${READY_MADE_SECRET}`],
    });
    const [{ url, headers, body } = assert.fail()] = server.calls;
    assert.equal(url, `/${SECRET}?token=${SECRET}`);
    assert.equal(headers['authorization'], `Bearer ${SECRET}`);
    assert.equal(headers['content-type'], 'text/x');
    assert.deepEqual(body, [SECRET]);
    assert.equal(host.failures.size, 0);
    assert.ok(!said().includes(SECRET), said());
    assert.ok(said().includes(`POST ${server.url}/\${READY_MADE_SECRET} returned`), said());
  });

  it('sends user and password, and tells no one of them, nor of the query', async (t) => {
    const server = await startWebhookServer((response) => response.writeHead(404).end(SECRET));
    t.after(server.close);
    const url = `${server.url.replace('//', `//me:${SECRET}@`)}/a?token=${SECRET}`;
    const { drain, said } = await hostWith('pm2-envoy/webhook', {
      [EVENT]: { url, required: true },
    });
    await drain();
    const basic = Buffer.from(`me:${SECRET}`).toString('base64');
    assert.equal(server.calls[0]?.headers['authorization'], `Basic ${basic}`);
    assert.ok(said().includes(`failed: POST ${server.url}/a returned 404"`), said());
    assert.ok(!said().includes(SECRET), said());
  });

  for (const status of [408, 429, 500, 503]) {
    it(`tries again after ${status}`, async (t) => {
      const { server, host, fakeLog, tookMs } = await callOne(
        t,
        { retries: 2 },
        (response, count) => response.writeHead(count < 3 ? status : 204).end(),
      );
      assert.equal(server.calls.length, 3);
      assert.equal(host.failures.size, 0);
      assert.ok(tookMs >= 750, `250 ms and 500 ms, not ${tookMs}`);
      assert.match(
        fakeLog.of('warn')[0] ?? '',
        new RegExp(`returned ${status}: retrying in 250ms`),
      );
    });
  }

  it('tries again after a broken connection, and after one that is refused', async (t) => {
    const broken = await callOne(t, { retries: 1 }, (response, count) =>
      count === 1 ? response.socket?.destroy() : response.end(),
    );
    assert.deepEqual([broken.server.calls.length, broken.host.failures.size], [2, 0]);
    const gone = await startWebhookServer();
    gone.close();
    const hook = { url: gone.url, retries: 1, required: true };
    const { drain, fakeLog } = await hostWith('pm2-envoy/webhook', { [EVENT]: hook });
    await drain();
    assert.match(fakeLog.of('error')[0] ?? '', /POST http:\S+ failed: ECONNREFUSED \(2 tries\)$/);
  });

  for (const status of [301, 307, 400, 401, 404]) {
    it(`fails immediately after ${status}`, async (t) => {
      const { server, host, fakeLog } = await callOne(t, { retries: 2 }, (response) =>
        response.writeHead(status, { location: '/elsewhere' }).end(),
      );
      assert.equal(server.calls.length, 1);
      assert.deepEqual([...host.failures], [[EVENT, 1]]);
      assert.match(fakeLog.of('error')[0] ?? '', new RegExp(`POST http:\\S+ returned ${status}`));
    });
  }

  it('gives up after its retries, and says how often it tried', async (t) => {
    const { server, fakeLog } = await callOne(t, { retries: 1 }, (response) =>
      response.writeHead(503).end(),
    );
    assert.equal(server.calls.length, 2);
    assert.match(fakeLog.of('error')[0] ?? '', /returned 503 \(2 tries\)$/);
  });

  it('is over at its time limit, in the middle of a request or between two', async (t) => {
    for (const answer of [
      () => undefined,
      (response: ServerResponse) => response.writeHead(200).write('.'),
      (response: ServerResponse) => response.writeHead(503).end(),
    ]) {
      const hook = { retries: 10, timeout: '600ms' };
      const { server, tookMs, fakeLog } = await callOne(t, hook, answer);
      assert.ok(tookMs >= 590 && tookMs < 10_000, `${tookMs} ms`);
      assert.match(
        fakeLog.of('error')[0] ?? '',
        /plugin pm2-envoy\/webhook did not end within 600 ms/,
      );
      assert.ok(server.calls.length <= 2, `${server.calls.length} calls`);
    }
  });

  it('reads an answer no further than it must', async (t) => {
    let sent = 0;
    const { host } = await callOne(t, {}, (response) => {
      const more = (): void => {
        while (!response.destroyed && response.write(Buffer.alloc(64 * 1024))) sent += 64;
        if (!response.destroyed) response.once('drain', more);
      };
      response.writeHead(200);
      more();
    });
    assert.equal(host.failures.size, 0);
    assert.ok(sent < 20 * 1024, `${sent} KiB`);
  });

  it('goes through the proxy that the environment names', async (t) => {
    const proxy = await startWebhookServer();
    t.after(proxy.close);
    process.env['http_proxy'] = proxy.url.replace('//', `//me:${SECRET}@`);
    const url = 'http://lb.example/hosts/web-1';
    const { drain, said } = await hostWith('pm2-envoy/webhook', {
      [EVENT]: { url, required: true },
    });
    await drain();
    assert.equal(proxy.calls[0]?.url, url);
    assert.ok(proxy.calls[0]?.headers['proxy-authorization']);
    proxy.close();
    await drain();
    assert.ok(said().includes(`${url} failed: ECONNREFUSED`), said());
    assert.ok(!said().includes(SECRET), said());
  });
});
