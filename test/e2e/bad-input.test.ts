import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { type AddressInfo, createServer as createTcpServer } from 'node:net';
import { join, resolve } from 'node:path';
import { describe, it } from 'node:test';
import { request } from '../support/clients.js';
import { envoyBinary } from '../support/envoy.js';
import { preparePm2, type TestPm2 } from '../support/pm2.js';
import { patiently } from '../support/wait.js';

const ROOT = resolve(import.meta.dirname, '../..');
const RUNNER = join(ROOT, 'dist/apps/runner.js');
const MANAGER = join(ROOT, 'dist/apps/manager.js');

/** Settings that can't work, and the one line that says so. */
const REFUSED: readonly {
  what: string;
  app: string;
  settings: Record<string, unknown>;
  says: RegExp;
}[] = [
  {
    what: 'an unknown key',
    app: MANAGER,
    settings: { 'check-intervall': '5s' },
    says: /"check-intervall" \(from file .*\) is not a known key; did you mean "check-interval"\?/,
  },
  {
    what: 'a bare number for a duration',
    app: MANAGER,
    settings: { 'check-delay': 5 },
    says: /check-delay: 5 \(from file .*\) must be a duration with a unit.*did you mean "5s"/,
  },
  {
    what: 'a negative port',
    app: MANAGER,
    settings: { 'serve-port': -1 },
    says: /serve-port: -1 \(from file .*\) must be a port, 0 to 65535/,
  },
  {
    what: 'a check-delay as long as the drain',
    app: RUNNER,
    settings: { 'check-delay': '40s' },
    says: /check-delay 40s .* must be below drain-timeout 40s/,
  },
  {
    what: 'a missing bootstrap',
    app: RUNNER,
    settings: { 'envoy-config': '/nowhere/envoy.yaml' },
    says: /the bootstrap file \/nowhere\/envoy.yaml \(envoy-config\).*(no such file|Invalid path)/,
  },
  {
    what: 'an Envoy that is not there',
    app: RUNNER,
    settings: { 'envoy-bin': '/nowhere/envoy' },
    says: /envoy-bin \/nowhere\/envoy: there is no such file/,
  },
  {
    what: 'a binary that is no Envoy and says no to everything',
    app: RUNNER,
    settings: { 'envoy-bin': '/bin/false' },
    says: /\/bin\/false is not an Envoy that runs here/,
  },
  {
    what: 'a binary that is no Envoy and says yes to everything',
    app: RUNNER,
    settings: { 'envoy-bin': '/bin/true' },
    says: /\/bin\/true is not an Envoy that runs here/,
  },
  {
    what: 'a plugin that is not there',
    app: MANAGER,
    settings: { plugins: ['./nowhere.js'] },
    says: /plugin .*nowhere.js can't be loaded/,
  },
];

describe('bad input is refused with one line and exit code 78', { concurrency: 3 }, () => {
  for (const { what, app, settings, says } of REFUSED) {
    it(what, () =>
      withPrepared(settings, async (pm2) => {
        const { code, lines } = await runApp(app, pm2);
        assert.equal(code, 78, lines.join('\n'));
        assert.equal(lines.length, 1, lines.join('\n'));
        assert.match(lines[0] ?? '', says);
      }),
    );
  }

  it('an invalid bootstrap, with the reason that Envoy gives', () =>
    withPrepared({}, async (pm2) => {
      writeFileSync(
        join(pm2.folder, 'envoy.yaml'),
        'static_resources: {listeners: [{nonsense: 1}]}\n',
      );
      const { code, lines } = await runApp(RUNNER, pm2);
      assert.equal(code, 78);
      assert.equal(lines.length, 1, lines.join('\n'));
      assert.match(lines[0] ?? '', /Envoy refuses the bootstrap file .*nonsense/);
      assert.equal(lines[0]?.match(/envoy\.yaml/g)?.length, 1, 'the file is named once');
      assert.doesNotMatch(lines[0]?.split('Envoy refuses')[1] ?? '', / {2}/);
    }));

  it('a bootstrap that Envoy can read, but not run, once its start has failed', () =>
    withPrepared({}, async (pm2) => {
      const file = join(pm2.folder, 'envoy.yaml');
      const bootstrap = JSON.parse(readFileSync(file, 'utf8'));
      bootstrap.static_resources.clusters.shift();
      writeFileSync(file, JSON.stringify(bootstrap));
      const { code, lines } = await runApp(RUNNER, pm2);
      assert.equal(code, 78);
      assert.match(lines.at(-1) ?? '', /Envoy refuses the bootstrap file .*unknown cluster 'http'/);
      assert.deepEqual(pm2.generations(), []);
    }));

  it('an Envoy behind a script that ends it at once, with what the script says', () =>
    withPrepared({}, async (pm2) => {
      const script = join(pm2.folder, 'particular-envoy');
      // It lets the bootstrap be read.
      writeFileSync(
        script,
        `#!/bin/sh
case "$*" in *--version* | *stats_flush_interval*) exec '${envoyBinary()}' "$@" ;; esac
echo 'LICENSE is not set' >&2
exit 1
`,
      );
      chmodSync(script, 0o755);
      pm2.env['ENVOY_BIN'] = script;
      const { code, lines } = await runApp(RUNNER, pm2);
      assert.equal(code, 78, lines.join('\n'));
      assert.match(lines.at(-1) ?? '', /Envoy refuses the bootstrap file .*LICENSE is not set/);
      assert.deepEqual(pm2.generations(), []);
    }));

  it('a busy serve-port', () =>
    withPrepared({}, async (pm2) => {
      const other = createTcpServer().listen(pm2.ports.serve, '127.0.0.1');
      await once(other, 'listening');
      const { code, lines } = await runApp(MANAGER, pm2);
      other.close();
      assert.equal(code, 78);
      assert.match(
        lines.at(-1) ?? '',
        /can't listen on 127.0.0.1 port \d+ \(another program uses it\)/,
      );
    }));

  it('an unwritable run-dir stops a runner, but not a manager', () =>
    withPrepared({ 'run-dir': '/proc/pm2-envoy' }, async (pm2) => {
      const { code, lines } = await runApp(RUNNER, pm2);
      assert.equal(code, 78);
      assert.match(
        lines[0] ?? '',
        /the run directory can't be used \(\/proc\/pm2-envoy: .*\): set run-dir/,
      );
      const manager = startApp(MANAGER, pm2);
      await once(manager.child.stdout ?? manager.child, 'data');
      await patiently(
        'the manager',
        async () => (await pm2.http('GET', '/healthz')).status === 200,
      );
      assert.equal((await pm2.http('GET', '/healthz')).status, 200);
      manager.child.kill('SIGINT');
      assert.equal((await manager.ended).code, 0);
    }));

  it('an admin address that answers HTML', async () => {
    const server = createServer((_request, response) => response.end('<html>hello</html>'));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const settings = { 'admin-address': `http://127.0.0.1:${port}` };
    await withPrepared(settings, async (pm2) => {
      const manager = await runApp(MANAGER, pm2);
      assert.equal(manager.code, 78);
      assert.equal(manager.lines.length, 1, manager.lines.join('\n'));
      assert.match(manager.lines[0] ?? '', /admin-address.*gave an answer that no Envoy gives/);
      const cli = await pm2.cli('shutdown');
      assert.equal(cli.code, 78);
      assert.match(cli.stderr, /admin-address: .*is this an Envoy admin address\?/);
    });
    server.close();
  });

  it('an ecosystem whose configuration is wrong: pm2 starts nothing', () =>
    withPrepared({ 'check-delay': 5, 'serve-port': 'x' }, async (pm2) => {
      await assert.rejects(
        pm2.pm2('start', join(ROOT, 'ecosystem.config.js')),
        (error: unknown) => {
          const { code, stdout, stderr } = error as {
            code: number;
            stdout: string;
            stderr: string;
          };
          assert.notEqual(code, 0);
          assert.match(stdout + stderr, /check-delay: 5 .*\n.*serve-port: "x"/);
          return true;
        },
      );
      assert.equal(pm2.generations().length, 0);
    }));
});

/** Command lines that no one means, the exit code, and the first line of what is said. */
const MISTYPED: readonly [string, number, RegExp][] = [
  ['shutdwn', 2, /unknown command 'shutdwn' \(Did you mean shutdown\?\)$/],
  ['statsu --wach', 2, /unknown command 'statsu' \(Did you mean status\?\)$/],
  ['envoy instal', 2, /unknown command 'instal' \(Did you mean install\?\)$/],
  ['frobnicate', 2, /unknown command 'frobnicate'$/],
  ['drain', 2, /unknown command 'drain'; `pm2-envoy shutdown` drains/],
  ['stop', 2, /unknown command 'stop'; `pm2 stop envoy` drains and stops/],
  ['reload', 2, /unknown command 'reload'; `pm2-envoy redeploy` checks first/],
  ['start', 2, /unknown command 'start'; `pm2 start ecosystem.config.js`/],
  ['restart', 2, /unknown command 'restart'; `pm2-envoy redeploy`/],
  ['-v', 2, /unknown option '-v' \(Did you mean --version\?\)$/],
  ['help shutdwn', 2, /unknown command 'shutdwn' \(Did you mean shutdown\?\)$/],
  ['help envoy instal', 2, /unknown command 'instal' \(Did you mean install\?\)$/],
  ['shutdwn --help', 2, /unknown command 'shutdwn' \(Did you mean shutdown\?\)$/],
  ['--versoin', 2, /unknown option '--versoin' \(Did you mean --version\?\)$/],
  ['--json status', 2, /option '--json' goes after the command: pm2-envoy COMMAND --json$/],
  ['status --wach', 2, /unknown option '--wach' \(Did you mean --watch\?\)$/],
  ['status --watch=1', 2, /option '--watch' takes no value, so leave out '=1'$/],
  ['status -x', 2, /unknown option '-x'$/],
  ['status extra-word', 2, /too many arguments for 'status': 'extra-word'$/],
  ['status watch', 2, /for 'status': 'watch' \(Did you mean --watch\?\)$/],
  ['envoy install 1.40.0 now', 2, /too many arguments for 'install': 'now'$/],
  [
    'shutdown --chek-delay 5s',
    2,
    /unknown option '--chek-delay' \(Did you mean --check-delay\?\)$/,
  ],
  ['shutdown --chek-delay=5s', 2, /'--chek-delay=5s' \(Did you mean --check-delay\?\)$/],
  ['shutdown --check_delay 5s', 2, /'--check_delay' \(Did you mean --check-delay\?\)$/],
  ['shutdown --checkDelay 5s', 2, /'--checkDelay' \(Did you mean --check-delay\?\)$/],
  ['shutdown --check-delay', 2, /argument missing: a duration, such as 0s, 5s, 1m30s or 500ms$/],
  ['redeploy --envoy', 2, /option '--envoy <version>' argument missing$/],
  ['shutdown --check-delay 5', 78, /check-delay: "5" .* a duration .*\(did you mean "5s"\?\)$/],
  ['shutdown --serve-port x', 78, /serve-port: "x" .* must be a port, 0 to 65535$/],
  ['shutdown --drain-until never', 78, /drain-until: "never" .* must be connections or requests$/],
  ['shutdown --config /nowhere.json', 78, /\/nowhere\.json/],
  ['doctor --grace-period 5', 78, /--grace-period: "5" must be a duration .*"5s"/],
];

describe('a command line that is mistyped', { concurrency: 2 }, () => {
  for (const [words, expected, says] of MISTYPED) {
    it(`${words} ends in ${expected} and says what is wrong`, () =>
      withPrepared({}, async (pm2) => {
        const { code, stdout, stderr } = await pm2.cli(...words.split(' '));
        assert.deepEqual([code, stdout], [expected, ''], stderr);
        const [first, ...rest] = stderr.trimEnd().split('\n');
        assert.match(first ?? '', says);
        assert.match(first ?? '', /^pm2-envoy: /);
        if (expected === 2) assert.match(rest.join('\n'), /^`pm2-envoy( \w+)* --help` says more$/);
      }));
  }

  it('a command of a plugin that can’t be loaded ends in 2, and says why there is none', () =>
    withPrepared({ plugins: ['./nowhere.js'] }, async (pm2) => {
      const { code, stderr } = await pm2.cli('hello');
      assert.equal(code, 2);
      assert.match(stderr, /^pm2-envoy: unknown command 'hello'\n/);
      assert.match(stderr, /\nno plugin was loaded: plugin .*nowhere\.js can't be loaded/);
    }));

  it('a version that is not pinned ends in 2, and says which there are', () =>
    withPrepared({}, async (pm2) => {
      const { code, stderr } = await pm2.cli('envoy', 'install', '1.2.3');
      assert.equal(code, 2);
      assert.match(stderr, /^pm2-envoy: Envoy "1\.2\.3" is not pinned; pinned are 1\.40\.0, /);
    }));

  it('a configuration file that is not there is named once', () =>
    withPrepared({}, async (pm2) => {
      const { stderr } = await pm2.cli('status', '--config', '/nowhere.json');
      assert.equal(stderr.match(/nowhere\.json/g)?.length, 1, stderr);
    }));

  it('without a command ends in 2 with the help, on stderr', () =>
    withPrepared({}, async (pm2) => {
      for (const [words, usage] of [
        [[], /^Usage: pm2-envoy \[options\] \[command\]/],
        [['envoy'], /^Usage: pm2-envoy envoy \[options\] \[command\]/],
      ] as const) {
        const { code, stdout, stderr } = await pm2.cli(...words);
        assert.deepEqual([code, stdout], [2, '']);
        assert.match(stderr, usage);
      }
    }));
});

describe('--help', () => {
  const COMMANDS = [
    '',
    'shutdown',
    'resume',
    'status',
    'redeploy',
    'doctor',
    'config',
    'envoy',
    'envoy install',
    'envoy which',
  ];
  for (const command of COMMANDS) {
    it(`of ${command || 'the program'} fits into 80 columns, what is its own first`, () =>
      withPrepared({}, async (pm2) => {
        const words = command === '' ? [] : command.split(' ');
        const { code, stdout } = await pm2.cli(...words, '--help');
        assert.equal(code, 0);
        assert.match(stdout, new RegExp(`^Usage: pm2-envoy ${command}`));
        for (const line of stdout.split('\n')) assert.ok(line.length <= 80, line);
        const [own = '', settings] = stdout.split('\nSettings');
        assert.ok(own.split('\n').length <= 32, own);
        // The same for every command: one has them.
        assert.equal(settings !== undefined, command === 'config');
        if (settings) assert.match(settings, /--check-delay <duration>/);
        if (command !== '' && command !== 'envoy') {
          assert.match(stdout, /\nExamples:\n( {2}pm2-envoy .*\n){2}\nExit codes:\n {2}0 /);
        }
        const asked = await pm2.cli('help', ...words);
        assert.equal(asked.stdout, stdout);
      }));
  }
});

describe('bad input leaves an Envoy that runs as it is', () => {
  it('a plugin that is refused at a reload of both apps: probes and drains go on without plugins', () =>
    withPrepared({}, async (pm2) => {
      await pm2.start();
      const settings = { ...pm2.settings, plugins: ['./nowhere.js'] };
      writeFileSync(pm2.env['PM2_ENVOY_CONFIG'] ?? '', JSON.stringify(settings));
      await pm2.pm2('restart', 'envoy-manager');
      await patiently('/readyz', async () => (await pm2.http('GET', '/readyz')).status === 200);
      const { lastError } = JSON.parse((await pm2.http('GET', '/status')).body);
      assert.match(lastError, /plugin .*nowhere\.js can't be loaded/);
      assert.match(pm2.log('envoy-manager'), /Envoy is in service: continuing without plugins/);
      assert.equal((await request(pm2.ports.http)).status, 200);
      assert.equal(JSON.parse((await pm2.http('POST', '/shutdown')).body).outcome, 'drained');
    }));

  it('a restart of the manager with a wrong configuration', () =>
    withPrepared({}, async (pm2) => {
      await pm2.start();
      writeFileSync(pm2.env['PM2_ENVOY_CONFIG'] ?? '', '{"check-delay": 5}');
      chmodSync(pm2.folder, 0o755);
      await pm2.pm2('restart', 'envoy-manager');
      assert.equal((await request(pm2.ports.http)).status, 200);
      assert.equal(pm2.generations().length, 1);
    }));
});

async function withPrepared(
  settings: Record<string, unknown>,
  use: (pm2: TestPm2) => Promise<void>,
) {
  const pm2 = await preparePm2(settings);
  try {
    await use(pm2);
  } finally {
    await pm2.stop();
  }
}

async function runApp(
  script: string,
  pm2: TestPm2,
): Promise<{ code: number | null; lines: string[] }> {
  return startApp(script, pm2).ended;
}

/** Runs an app without pm2, as someone who debugs it would. */
function startApp(
  script: string,
  { env, folder }: TestPm2,
): { child: ChildProcess; ended: Promise<{ code: number | null; lines: string[] }> } {
  const child = spawn(process.execPath, [script], {
    env,
    cwd: folder,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  child.stdout?.on('data', (chunk: Buffer) => {
    output += chunk;
  });
  const ended = once(child, 'close').then(([code]) => ({
    code: typeof code === 'number' ? code : null,
    lines: output
      .trim()
      .split('\n')
      .map((line) => String(JSON.parse(line).msg)),
  }));
  return { child, ended };
}
