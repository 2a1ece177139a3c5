import assert from 'node:assert/strict';
import { chmodSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { join, resolve } from 'node:path';
import { describe, it } from 'node:test';
import { createAdminClient } from '../../src/admin/client.js';
import { request } from '../support/clients.js';
import { envoyBinary } from '../support/envoy.js';
import { pidsWith, statusOf, type TestPm2, withPm2 } from '../support/pm2.js';
import { eventually, letPass, patiently } from '../support/wait.js';
import { startWebhookServer, type WebhookServer } from '../support/webhooks.js';

const ECOSYSTEM = resolve(import.meta.dirname, '../../ecosystem.config.js');
const SECRET = 'tell-nobody-4711';
const LB = `\${LB_URL}/hosts/web-1?token=\${LB_TOKEN}`;
const NOTE = 'echo "$DRAIN_HOOK $DRAIN_OUTCOME" >> "$NOTES"';

/** A host that is taken out of a load balancer, and put in again. */
const BALANCED = [
  [
    'pm2-envoy/webhook',
    {
      hooks: {
        'before:shutdown:fail-health': {
          url: LB,
          method: 'DELETE',
          headers: { authorization: `Bearer \${LB_TOKEN}` },
          required: true,
        },
        'after:resume:pass-health': { url: LB, method: 'PUT' },
        'start:live': { url: LB, method: 'PUT' },
      },
    },
  ],
  [
    'pm2-envoy/command',
    {
      hooks: {
        'before:shutdown:fail-health': NOTE,
        'after:resume:pass-health': NOTE,
        'start:live': NOTE,
        'shutdown:finish': NOTE,
      },
    },
  ],
];

interface Scene {
  pm2: TestPm2;
  server: WebhookServer;
  /** `PUT start:live` and the like, in the order of the calls. */
  calls(): string[];
  /** What commands have noted. */
  notes(): string[];
}

/** Runs a test with plugins, a balancer that they call, and a file for their notes. */
async function withPlugins(
  settings: Readonly<Record<string, unknown>>,
  use: (scene: Scene) => Promise<void>,
  how: { start?: boolean; answer?: (response: ServerResponse, count: number) => void } = {},
): Promise<void> {
  const server = await startWebhookServer(how.answer);
  try {
    await withPm2(
      { ...settings },
      async (pm2) => {
        const notes = join(pm2.folder, 'notes');
        const more = { LB_URL: server.url, LB_TOKEN: SECRET, NOTES: notes, NO_PROXY: '127.0.0.1' };
        Object.assign(pm2.env, more, { GO: join(pm2.folder, 'go') });
        if (how.start !== false) await pm2.start();
        await use({
          pm2,
          server,
          calls: () => server.calls.map(({ method, body }) => `${method} ${hookIn(body)}`.trim()),
          notes: () => (existsSync(notes) ? linesOf(readFileSync(notes, 'utf8')) : []),
        });
      },
      false,
    );
  } finally {
    server.close();
  }
}

const linesOf = (text: string): string[] => text.split(/\s*\n/).slice(0, -1);

function hookIn(body: unknown): string {
  return typeof body === 'object' && body !== null && 'hook' in body ? String(body.hook) : '';
}

const atPhase = (pm2: TestPm2, phase: string) =>
  eventually(`the phase ${phase}`, async () => (await statusOf(pm2)).phase === phase);

/** Envoy's own word. */
async function stateOf(pm2: TestPm2): Promise<string> {
  const admin = createAdminClient({ kind: 'unix', path: pm2.generations()[0]?.adminSocket ?? '' });
  return admin.state().finally(admin.close);
}

describe('a required command before a drain', () => {
  it('is waited for: Envoy’s health fails only once it has ended', () => {
    const run = `${NOTE}; while [ ! -e "$GO" ]; do sleep 0.05; done`;
    const hook = { run, required: true, timeout: '20s' };
    const plugins = [['pm2-envoy/command', { hooks: { 'before:shutdown:fail-health': hook } }]];
    return withPlugins({ plugins }, async ({ pm2, notes }) => {
      const caller = pm2.http('POST', '/shutdown');
      await eventually('the command', () => notes().length === 1);
      await letPass(300);
      assert.equal(await stateOf(pm2), 'LIVE');
      writeFileSync(String(pm2.env['GO']), '');
      const { status, body } = await caller;
      assert.deepEqual([status, JSON.parse(body).outcome], [200, 'drained']);
      await eventually('its word', () => /exited with code 0 after/.test(pm2.log('envoy-manager')));
    });
  });
});

describe('ready-made hooks that fail or hang', () => {
  it('never hold up a drain longer than a required one may, and leave no process', () => {
    const hangs = `trap '' TERM; ${NOTE}; sleep 600 & sleep 601`;
    const command = {
      'before:shutdown:fail-health': { run: hangs, required: true, timeout: '4s' },
      'shutdown:fail-health': { run: hangs, timeout: '5s' },
      'before:shutdown:close': { run: 'echo no luck >&2; exit 3', required: true },
      'after:shutdown:wait': ['/no/such/program'],
    };
    const webhook = {
      'before:shutdown:delay': { url: LB, required: true, retries: 1 },
      'before:shutdown:wait': 'http://127.0.0.1:1/',
    };
    const plugins = [
      ['pm2-envoy/command', { hooks: command }],
      ['pm2-envoy/webhook', { hooks: webhook }],
    ];
    return withPlugins(
      { plugins },
      async ({ pm2, notes, calls }) => {
        const { status, body } = await pm2.http('POST', '/shutdown');
        const { outcome, durationMs } = JSON.parse(body);
        assert.deepEqual([status, outcome], [200, 'drained']);
        assert.ok(durationMs >= 4_000, `${durationMs} ms`);
        assert.equal(notes().length, 2);
        assert.equal(calls().length, 2, 'a retry');
        const log = await eventually('all to be logged', () => {
          const text = pm2.log('envoy-manager');
          return (
            text.match(/hook \S+ of plugin pm2-envoy\/\w+ (failed|did not end)/g)?.length === 6 &&
            text
          );
        });
        for (const said of [
          /before:shutdown:fail-health of plugin pm2-envoy\/command did not end within 4000 ms/,
          /hook shutdown:fail-health of plugin pm2-envoy\/command did not end within 5000 ms/,
          /before:shutdown:close of plugin pm2-envoy\/command failed: echo no luck >&2; exit 3 exited with code 3 after \d+ ms \| no luck/,
          /after:shutdown:wait of plugin pm2-envoy\/command failed: \/no\/such\/program can't be started: ENOENT/,
          /before:shutdown:delay of plugin pm2-envoy\/webhook failed: POST \S+ returned 500 \(2 tries\)/,
          /before:shutdown:wait of plugin pm2-envoy\/webhook failed: POST http:\/\/127.0.0.1:1\/ failed: ECONNREFUSED/,
        ]) {
          assert.match(log, said);
        }
        const isLeft = (): boolean => pidsWith(String(pm2.env['NOTES'])).some(isSleep);
        await eventually('no process of theirs', () => !isLeft());
      },
      { answer: (response) => response.writeHead(500).end() },
    );
  });
});

function isSleep(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim() === 'sleep';
  } catch {
    return false;
  }
}

describe('a host that is taken out of a load balancer', { concurrency: 2 }, () => {
  const START = ['PUT start:live'];
  const BACK = [...START, 'DELETE', 'PUT after:resume:pass-health'];
  /** Nothing waits for a command that is not required: their order is open. */
  const NOTES_BACK = [
    'after:resume:pass-health cancelled',
    'before:shutdown:fail-health',
    'shutdown:finish cancelled',
    'start:live',
  ];
  const settings = { plugins: BALANCED, 'check-delay': '2m', 'drain-timeout': '3m' };

  const ways: readonly [string, (pm2: TestPm2) => Promise<void>][] = [
    [
      'the command line, with the manager up',
      async (pm2) => {
        const caller = pm2.http('POST', '/shutdown');
        await atPhase(pm2, 'delay');
        assert.equal((await pm2.cli('resume')).code, 0);
        assert.equal((await caller).status, 409);
      },
    ],
    [
      'DELETE /shutdown',
      async (pm2) => {
        const caller = pm2.http('POST', '/shutdown');
        await atPhase(pm2, 'delay');
        assert.equal((await pm2.http('DELETE', '/shutdown')).status, 200);
        assert.equal((await caller).status, 409);
      },
    ],
    [
      'the command line, with the manager down',
      async (pm2) => {
        await pm2.pm2('stop', 'envoy-manager');
        const caller = pm2.cli('shutdown');
        await patiently('the delay', async () =>
          /^phase +delay/.test((await pm2.cli('status')).stdout),
        );
        assert.equal((await pm2.cli('resume')).code, 0);
        assert.equal((await caller).code, 4);
      },
    ],
  ];
  for (const [how, takeBack] of ways) {
    it(`is put in again once when the drain is cancelled by ${how}`, () =>
      withPlugins(settings, async ({ pm2, calls, notes }) => {
        await eventually('the start', () => calls().length === 1 && notes().length === 1);
        await takeBack(pm2);
        await eventually('it', () => calls().length >= BACK.length && notes().length >= 4);
        await letPass(500);
        assert.deepEqual(calls(), BACK);
        assert.deepEqual(notes().sort(), NOTES_BACK);
        assert.equal(await stateOf(pm2), 'LIVE');
      }));
  }

  it('is put in again once where only Envoy’s health was failed', () =>
    withPlugins({ plugins: BALANCED }, async ({ pm2, calls }) => {
      await eventually('the start', () => calls().length === 1);
      const admin = createAdminClient({
        kind: 'unix',
        path: pm2.generations()[0]?.adminSocket ?? '',
      });
      await admin.failHealthCheck().finally(admin.close);
      assert.equal((await pm2.cli('resume')).code, 0);
      await eventually('it', () => calls().length >= 2);
      await letPass(300);
      assert.deepEqual(calls(), [...START, 'PUT after:resume:pass-health']);
    }));
});

describe('start:live', { concurrency: 2 }, () => {
  it('is called once by a start, a restart, a reload, and a start after a drain', () =>
    withPlugins({ plugins: BALANCED }, async ({ pm2, calls, notes }) => {
      const expected = ['PUT start:live'];
      const came = async (): Promise<void> => {
        await eventually('the call', () => calls().length >= expected.length);
        await letPass(300);
        assert.deepEqual(calls(), expected);
      };
      await came();
      for (const word of ['restart', 'reload']) {
        await pm2.pm2(word, 'envoy');
        expected.push('PUT start:live');
        await came();
      }
      await eventually('one generation', () => pm2.generations().length === 1, 30_000);
      assert.equal((await pm2.cli('shutdown')).code, 0);
      expected.push('DELETE');
      await came();
      await pm2.pm2('restart', 'envoy');
      expected.push('PUT start:live');
      await came();
      const starts = (): string[] => notes().filter((note) => note === 'start:live');
      await eventually('the notes of all', () => starts().length >= 4);
      assert.equal(starts().length, 4);
    }));

  it('is not called by a reload that fails: nothing new has come into service', () =>
    withPlugins({ plugins: BALANCED }, async ({ pm2, calls }) => {
      await eventually('the start', () => calls().length === 1);
      writeFileSync(String(pm2.settings['envoy-config']), '{"static_resources": 5}');
      await assert.rejects(pm2.pm2('reload', 'envoy'));
      await eventually('the adoption', () => /keeps serving/.test(pm2.log('envoy')));
      await letPass(500);
      assert.deepEqual(calls(), ['PUT start:live']);
    }));

  it('is not called for a generation that comes up in the middle of a drain', () =>
    withPlugins({ plugins: BALANCED, 'check-delay': '6s' }, async ({ pm2, calls }) => {
      await eventually('the start', () => calls().length === 1);
      const envoy = join(pm2.folder, 'waiting-envoy');
      const waits = `case "$*" in *--mode*|*--version*) ;; *) while [ ! -e "$GO" ]; do sleep 0.05; done ;; esac\nexec '${envoyBinary()}' "$@"`;
      writeFileSync(envoy, `#!/bin/sh\n${waits}\n`);
      chmodSync(envoy, 0o755);
      pm2.env['ENVOY_BIN'] = envoy;
      const reloading = pm2.pm2('reload', 'envoy', '--update-env').catch(() => undefined);
      await patiently('the new generation', () =>
        existsSync(join(pm2.folder, 'run/generations/2/generation.json')),
      );
      const drain = pm2.http('POST', '/shutdown');
      await atPhase(pm2, 'delay');
      writeFileSync(String(pm2.env['GO']), '');
      await reloading;
      assert.equal(JSON.parse((await drain).body).outcome, 'drained');
      assert.equal(pm2.generations().at(-1)?.ready, true);
      await letPass(300);
      assert.deepEqual(calls(), ['PUT start:live', 'DELETE']);
    }));

  it('neither fails nor holds up the runner, whatever its hooks do', () => {
    const hooks = {
      'before:start:live': { run: 'sleep 600', required: true, timeout: '700ms' },
      'start:live': 'exit 5',
      'after:start:live': 'sleep 600',
    };
    return withPlugins({ plugins: [['pm2-envoy/command', { hooks }]] }, async ({ pm2 }) => {
      const pid = await pm2.pidOf('envoy');
      await eventually('both to be logged', () => {
        const log = pm2.log('envoy');
        return /did not end within 700 ms/.test(log) && /exit 5 exited with code 5/.test(log);
      });
      assert.equal((await request(pm2.ports.http)).status, 200);
      assert.equal(await pm2.pidOf('envoy'), pid);
      await pm2.pm2('restart', 'envoy');
      assert.equal((await request(pm2.ports.http)).status, 200);
    });
  });
});

describe('the secrets of a webhook', () => {
  it('come from the environment, and are in no log, output or file of pm2-envoy', () =>
    withPlugins({ plugins: BALANCED, 'log-level': 'debug' }, async ({ pm2, server }) => {
      await pm2.http('POST', '/shutdown');
      const call = await eventually('the call', () =>
        server.calls.find(({ method }) => method === 'DELETE'),
      );
      assert.equal(call.url, `/hosts/web-1?token=${SECRET}`);
      assert.equal(call.headers['authorization'], `Bearer ${SECRET}`);
      const outputs = await Promise.all(
        [['config'], ['config', '--json'], ['status', '--json']].map((args) => pm2.cli(...args)),
      );
      server.close();
      await pm2.pm2('restart', 'envoy');
      await eventually('the failure', () => /failed: ECONNREFUSED/.test(pm2.log('envoy')));
      const said = outputs.map(({ stdout, stderr }) => stdout + stderr);
      said.push(pm2.log('envoy'), pm2.log('envoy-manager'), pm2.ownLog());
      for (const text of said) {
        assert.ok(text !== '', 'something said nothing at all');
        assert.ok(!text.includes(SECRET), `told in: ${text.slice(0, 500)}`);
      }
      assert.ok(said[0]?.includes(`Bearer \${LB_TOKEN}`), said[0]);
    }));

  it('have to be there at the start: without them both apps stay down and say why', () =>
    withPlugins(
      { plugins: BALANCED },
      async ({ pm2 }) => {
        delete pm2.env['LB_TOKEN'];
        await pm2.pm2('start', ECOSYSTEM).catch(() => undefined);
        for (const app of ['envoy', 'envoy-manager']) {
          await eventually(`${app} to say so`, () =>
            /plugin pm2-envoy\/webhook can't be used: hook before:shutdown:fail-health: \S+ \S+ names the environment variable LB_TOKEN, which is not set/.test(
              pm2.log(app),
            ),
          );
        }
        assert.equal(pm2.generations().length, 0);
      },
      { start: false },
    ));
});
