import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { isAlive } from '../../src/host/process-identity.js';
import { writeBootstrap } from '../support/bootstrap.js';
import { holdTcp, request } from '../support/clients.js';
import { envoyBinary } from '../support/envoy.js';
import { preparePm2, statusOf, type TestPm2, withPm2 } from '../support/pm2.js';
import { startProcess } from '../support/process.js';
import { eventually, patiently } from '../support/wait.js';

const ROOT = resolve(import.meta.dirname, '../..');
const CLI = join(ROOT, 'bin/pm2-envoy.js');
const NOT_AN_ENVOY = '/bin/true';

describe('pm2-envoy redeploy', { concurrency: 3 }, () => {
  describe('of one host, again and again', { concurrency: 1 }, () => {
    let pm2: TestPm2;
    before(async () => {
      pm2 = await preparePm2();
      keepEnvoys(pm2);
      serveText(pm2, 'v1');
      await pm2.start();
    });
    after(() => pm2.stop());

    const serving = () => pm2.generations().at(-1) ?? assert.fail('no generation');
    /** A status tells less of an Envoy that takes long to answer. */
    const serves = (version: string) =>
      eventually(`Envoy ${version} to serve`, async () => {
        const { envoy } = await statusOf(pm2);
        return envoy.version === version && envoy;
      });

    it('with nothing changed says so, and puts a new generation instead of the old one', async () => {
      const [first = assert.fail()] = pm2.generations();
      const { code, stdout, stderr } = await pm2.cli('redeploy');
      assert.equal(code, 0, stderr);
      assert.match(
        stderr,
        /generation 1 serves \(Envoy 1\.40\.0\)\nnothing changes: the same Envoy/,
      );
      assert.match(stderr, /generation 2 is LIVE \(Envoy 1\.40\.0\)/);
      assert.match(
        stdout,
        /^generation 2 \(Envoy 1\.40\.0\) serves after [\d.]+m?s; generation 1 \(Envoy 1\.40\.0\) has ended: drained, 0 connections cut\n$/,
      );
      assert.equal(isAlive(first.envoy), false);
      assert.equal((await request(pm2.ports.http, '/text')).body, 'v1');
    });

    it('--dry-run shows what a changed bootstrap changes, and reloads nothing', async () => {
      serveText(pm2, 'v2');
      const { number } = serving();
      const { code, stdout, stderr } = await pm2.cli('redeploy', '--dry-run');
      assert.equal(code, 0, stderr);
      assert.match(stderr, /^-.*v1/m);
      assert.match(stderr, /^\+.*v2/m);
      assert.equal(stdout, 'everything is valid; nothing was reloaded (--dry-run)\n');
      const json = await pm2.cli('redeploy', '--dry-run', '--json');
      assert.equal(JSON.parse(json.stdout).outcome, 'dry-run');
      assert.match(JSON.parse(json.stdout).changes.bootstrap, /^\+.*v2/m);
      assert.equal(serving().number, number);
    });

    it('with a changed bootstrap shows the difference, and the new one serves', async () => {
      const { code, stderr } = await pm2.cli('redeploy');
      assert.equal(code, 0, stderr);
      assert.match(stderr, /^--- \S+envoy\.yaml \(generation 2\)\n\+\+\+ \S+envoy\.yaml \(now\)$/m);
      assert.match(stderr, /^-.*v1.*\n\+.*v2/m);
      assert.equal((await request(pm2.ports.http, '/text')).body, 'v2');
    });

    it('--envoy VERSION runs that version, which it does not fetch again if it is there', async () => {
      const { code, stdout, stderr } = await pm2.cli('redeploy', '--envoy', '1.39.3');
      assert.equal(code, 0, stderr);
      assert.match(stderr, /^envoy {6}1\.40\.0 \(\S+\) -> 1\.39\.3 \(\S+1\.39\.3\/envoy\)$/m);
      assert.doesNotMatch(stderr, /installed/);
      assert.match(stderr, /pm2 keeps PM2_ENVOY_ENVOY_BIN=\S+1\.39\.3\/envoy/);
      assert.match(stdout, /\(Envoy 1\.39\.3\) serves/);
      await serves('1.39.3');
    });

    it('--json prints one JSON document and nothing else on stdout', async () => {
      const from = serving();
      const { code, stdout, stderr } = await pm2.cli('redeploy', '--envoy', '1.40.0', '--json');
      assert.equal(code, 0, stderr);
      assert.equal(stdout.trim().split('\n').length, 1);
      const { changes, tookMs, ...result } = JSON.parse(stdout);
      assert.match(changes.envoy.to, /^1\.40\.0 /);
      assert.ok(tookMs > 0);
      assert.deepEqual(result.from, {
        generation: from.number,
        version: '1.39.3',
        pid: from.envoy.pid,
      });
      const to = serving();
      assert.deepEqual(result.to, { generation: to.number, version: '1.40.0', pid: to.envoy.pid });
      assert.equal(result.outcome, 'redeployed');
      assert.equal(result.handover.outcome, 'drained');
      assert.equal(result.handover.connectionsLeft, 0);
    });

    it('--envoy-bin and --envoy-args run another binary, otherwise', async () => {
      const older = envoyBinary('OLDER_ENVOY_BIN');
      const { code, stderr } = await pm2.cli(
        ...['redeploy', '--envoy-bin', older],
        ...['--envoy-args', '["--concurrency", "1"]'],
      );
      assert.equal(code, 0, stderr);
      assert.match(stderr, /^arguments {2}--concurrency 2 .* -> --concurrency 1 /m);
      assert.equal((await serves('1.39.3')).concurrency, 1);
      assert.equal(serving().launch?.binary, older);
    });

    const refused: readonly { what: string; args: string[]; code: number; says: RegExp }[] = [
      {
        what: 'a version that is not pinned',
        args: ['--envoy', '1.2.3'],
        code: 2,
        says: /Envoy "1\.2\.3" is not pinned; pinned are 1\.40\.0, /,
      },
      {
        what: '--envoy with --envoy-bin',
        args: ['--envoy', '1.40.0', '--envoy-bin', NOT_AN_ENVOY],
        code: 78,
        says: /--envoy and --envoy-bin are both set: leave one out/,
      },
      {
        what: 'an Envoy that is not there',
        args: ['--envoy-bin', './nowhere'],
        code: 78,
        says: /nothing was reloaded[\s\S]*nowhere: there is no such file/,
      },
      {
        what: 'a binary that is no Envoy, but takes every bootstrap',
        args: ['--envoy-bin', NOT_AN_ENVOY],
        code: 78,
        says: /nothing was reloaded[\s\S]*\/bin\/true is not an Envoy that runs here/,
      },
      {
        what: 'a bootstrap that is not there',
        args: ['--envoy-config', 'nowhere.yaml'],
        code: 78,
        says: /nothing was reloaded[\s\S]*nowhere\.yaml/,
      },
      {
        what: 'an argument that is pm2-envoy’s own',
        args: ['--envoy-args', '["--base-id", "1"]'],
        code: 78,
        says: /--base-id/,
      },
      {
        what: 'a setting that the manager has too',
        args: ['--drain-timeout', '10s'],
        code: 78,
        says: /--drain-timeout can't be changed by a redeploy, which takes --envoy-bin, /,
      },
      {
        what: 'a mistyped option',
        args: ['--dryrun'],
        code: 2,
        says: /unknown option '--dryrun'\s+\(Did you mean --dry-run\?\)/,
      },
      { what: 'a version without --envoy', args: ['1.40.0'], code: 2, says: /too many arguments/ },
    ];
    describe('refuses', { concurrency: 3 }, () => {
      for (const { what, args, code: expected, says } of refused) {
        it(`${what} with ${expected}, and reloads nothing`, async () => {
          const { number, runner } = serving();
          const { code, stdout, stderr } = await pm2.cli('redeploy', ...args);
          assert.equal(code, expected, stderr);
          assert.equal(stdout, '');
          assert.match(stderr, says);
          const now = serving();
          assert.deepEqual([now.number, now.runner], [number, runner]);
        });
      }
    });

    it('refuses a bad bootstrap with 78 and Envoy’s reason, and reloads nothing', async () => {
      const { number, runner } = serving();
      writeFileSync(join(pm2.folder, 'envoy.yaml'), 'static_resources: {nonsense: 1}\n');
      const { code, stdout, stderr } = await pm2.cli('redeploy', '--json');
      serveText(pm2, 'v3');
      assert.deepEqual([code, stdout], [78, '']);
      assert.match(
        stderr,
        /nothing was reloaded; what is wrong:\n.*refuses the bootstrap.*nonsense/,
      );
      const now = serving();
      assert.deepEqual([now.number, now.runner, now.failedReload], [number, runner, undefined]);
      assert.equal((await request(pm2.ports.http, '/text')).body, 'v2');
    });

    it('with an Envoy that crashes at its start ends with 1; the old one goes on', async () => {
      const { number, launch } = serving();
      const crashing = writeEnvoy(pm2, 'sleep 0.2; exit 3');
      const { code, stdout, stderr } = await pm2.cli('redeploy', '--envoy-bin', crashing);
      assert.equal(code, 1, stderr);
      assert.match(stdout, /^the redeploy failed after .*: Envoy exited with code 3 before it was/);
      assert.match(stdout, new RegExp(`generation ${number} \\(Envoy 1\\.39\\.3\\) keeps serving`));
      // pm2 has taken the variable all the same, and would start this Envoy after a crash.
      assert.match(stderr, new RegExp(`pm2 still keeps PM2_ENVOY_ENVOY_BIN=${crashing}`));
      assert.match(stderr, new RegExp(`pm2-envoy redeploy --envoy-bin ${launch?.binary}`));
      assert.equal((await request(pm2.ports.http, '/text')).body, 'v2');
      assert.equal(serving().number, number);
      const { generations } = await statusOf(pm2);
      assert.match(generations[0].failedReload.reason, /Envoy exited with code 3/);
      const { stdout: shown } = await pm2.cli('status');
      assert.match(shown, /^last reload {2}failed at \S+: Envoy exited with code 3/m);

      const back = await pm2.cli('redeploy', '--envoy', '1.40.0');
      assert.equal(back.code, 0, back.stderr);
      assert.equal((await statusOf(pm2)).generations[0].failedReload, null);
      assert.equal((await request(pm2.ports.http, '/text')).body, 'v3');
    });

    it('brings a drained host back into service', async () => {
      assert.equal((await pm2.cli('shutdown')).code, 0);
      const { code, stderr } = await pm2.cli('redeploy');
      assert.equal(code, 0, stderr);
      assert.match(
        stderr,
        /^generation \d+ \(Envoy [\d.]+\): the host is drained at .*; the redeploy brings it back$/m,
      );
      assert.equal((await pm2.http('GET', '/readyz')).status, 200);
      assert.equal((await statusOf(pm2)).phase, 'idle');
    });

    it('with two instances says how to have one, and not that a reload is under way', async () => {
      await pm2.pm2('scale', 'envoy', '2');
      await patiently('both', () => pm2.generations().filter(({ ready }) => ready).length === 2);
      const { code, stderr } = await pm2.cli('redeploy');
      assert.equal(code, 1, stderr);
      assert.match(stderr, /pm2 runs 2 instances of envoy, .*`pm2 scale envoy 1`, then redeploy/);
      await pm2.pm2('scale', 'envoy', '1');
      const after = await pm2.cli('redeploy');
      assert.equal(after.code, 0, after.stderr);
    });

    it('starts an app that is stopped', async () => {
      await pm2.pm2('stop', 'envoy');
      const { code, stdout, stderr } = await pm2.cli('redeploy');
      assert.equal(code, 0, stderr);
      assert.match(stderr, /no Envoy serves: this starts Envoy 1\.40\.0 \(the app is stopped\)/);
      assert.match(stdout, /^generation \d+ \(Envoy 1\.40\.0\) serves after /);
      assert.equal((await request(pm2.ports.http)).status, 200);
    });

    it('without the app says how to start it, without pm2 that there is none: 5', async () => {
      await pm2.pm2('delete', 'envoy');
      const noApp = await pm2.cli('redeploy');
      assert.equal(noApp.code, 5, noApp.stderr);
      assert.match(
        noApp.stderr,
        /has no app envoy: start it with `pm2 start ecosystem\.config\.js`/,
      );
      await pm2.pm2('kill');
      const noPm2 = await pm2.cli('redeploy', '--json');
      assert.deepEqual([noPm2.code, noPm2.stdout], [5, '']);
      assert.match(
        noPm2.stderr,
        /no daemon listens there: is pm2 running, and is this its PM2_HOME/,
      );
    });
  });

  describe('while a connection is held', { concurrency: 1 }, () => {
    it('longer than drain-timeout ends with 3, and says how many were cut', () =>
      withPm2({ 'drain-timeout': '9s' }, async (pm2) => {
        const held = await holdTcp(pm2.ports.tcp);
        const { code, stdout, stderr } = await pm2.cli('redeploy');
        assert.equal(code, 3, stderr);
        assert.match(stderr, /handing over from generation 1: 1 connection open, at most \ds left/);
        assert.match(
          stdout,
          /generation 1 \(Envoy 1\.40\.0\) has ended: timeout, 1 connection cut/,
        );
        await eventually('it to be cut', held.isCut);
        assert.equal((await request(pm2.ports.http)).status, 200);
      }));

    it('shows a live line in a terminal; Ctrl-C leaves the reload to pm2, which ends it well', () =>
      withPm2({}, async (pm2) => {
        const held = await holdTcp(pm2.ports.tcp);
        const [first = assert.fail()] = pm2.generations();
        const command = `stty cols 100; '${process.execPath}' '${CLI}' redeploy`;
        const terminal = startProcess(pm2, 'script', ['-qefc', command, '/dev/null']);
        const left = /^handing over from generation 1: 1 connection open, at most (\d+)s left/;
        await patiently('the time left to go down', () => {
          const lines = terminal.output().split('\r\u001b[K');
          return new Set(lines.flatMap((line) => left.exec(line)?.[1] ?? [])).size > 1;
        });

        const second = await pm2.cli('redeploy');
        assert.deepEqual([second.code, second.stdout], [1, '']);
        assert.match(second.stderr, /^pm2-envoy: a reload of envoy is under way already: wait/);

        terminal.child.stdin?.write('\u0003');
        assert.equal(await terminal.ended, 130);
        assert.match(
          terminal.output(),
          /the reload continues in pm2; `pm2-envoy status` shows where/,
        );
        await held.echo('still here');
        held.close();
        await eventually('generation 1 to end', () => !isAlive(first.envoy));
        await eventually('one generation to serve', async () => {
          const { generations } = await statusOf(pm2);
          return generations.length === 1 && generations[0].state === 'serving';
        });
        assert.equal(held.isCut(), false);
        const again = await pm2.cli('redeploy');
        assert.equal(again.code, 0, again.stdout);
      }));

    it('to an Envoy that hangs at the end does not say that it serves: 5', () =>
      withPm2({}, async (pm2) => {
        const held = await holdTcp(pm2.ports.tcp);
        const redeploy = pm2.cli('redeploy');
        const second = await patiently('the hand-over', async () => {
          const { generations } = await statusOf(pm2);
          return generations[0].state === 'handing-over' && pm2.generations()[1];
        });
        process.kill(second.envoy.pid, 'SIGSTOP');
        held.close();
        const { code, stdout } = await redeploy;
        assert.equal(code, 5, stdout);
        assert.match(
          stdout,
          /^generation 2 .* took over after .*, but does not answer \(.*\): .*; generation 1 .* has ended: drained, 0 connections cut$/m,
        );
      }));

    it('and stopped by `pm2 kill` cuts nothing, and does not say that Envoy serves', () =>
      withPm2({}, async (pm2) => {
        const held = await holdTcp(pm2.ports.tcp);
        const redeploy = startProcess(pm2, process.execPath, [CLI, 'redeploy']);
        await patiently('the hand-over', () => redeploy.output().includes('handing over'));
        const killed = pm2.pm2('kill');
        await patiently('the host to drain', async () => (await statusOf(pm2)).phase === 'wait');
        await held.echo('still here');
        held.close();
        assert.equal(await redeploy.ended, 1);
        assert.match(
          redeploy.output(),
          /the redeploy failed after .*: it was stopped meanwhile: .*`pm2-envoy redeploy`/,
        );
        assert.doesNotMatch(redeploy.output(), /keeps serving/);
        await killed;
        assert.equal(held.isCut(), false);
        assert.equal(pm2.generations().length, 0);
      }));

    it('whose pm2 is killed -9 says that the new Envoy serves, and pm2 is gone: 1', () =>
      withPm2({}, async (pm2) => {
        const held = await holdTcp(pm2.ports.tcp);
        const redeploy = startProcess(pm2, process.execPath, [CLI, 'redeploy']);
        await patiently('the hand-over', () => redeploy.output().includes('handing over'));
        process.kill(pm2.daemonPid(), 'SIGKILL');
        assert.equal(await redeploy.ended, 1);
        assert.match(
          redeploy.output(),
          /failed after .*: pm2 did not complete the reload: .*no daemon listens there/,
        );
        assert.match(redeploy.output(), /generation 2 \(Envoy 1\.40\.0\) keeps serving/);
        assert.equal((await request(pm2.ports.http)).status, 200);
        held.close();
      }));
  });

  describe('of an app as its user has set it up', { concurrency: 1 }, () => {
    it('works from another folder without PM2_HOME, relative to the app’s own folder', () =>
      withApps({}, async (pm2) => {
        const { PM2_HOME: _, ...env } = pm2.env;
        const elsewhere = join(pm2.folder, 'elsewhere');
        mkdirSync(elsewhere);
        const inOtherFolder = { env: { ...env, HOME: elsewhere }, cwd: elsewhere };
        const plain = startProcess(pm2, process.execPath, [CLI, 'redeploy'], inOtherFolder);
        assert.equal(await plain.ended, 0, plain.output());
        assert.match(plain.output(), /generation 2 \(Envoy 1\.40\.0\) serves/);
        assert.equal((await request(pm2.ports.http, '/text')).body, 'of the app');

        // A path that is typed is this shell's.
        const args = [CLI, 'redeploy', '--envoy-config', '../envoy.yaml', '--dry-run'];
        const typed = startProcess(pm2, process.execPath, args, inOtherFolder);
        assert.equal(await typed.ended, 0, typed.output());
        assert.match(typed.output(), /nothing changes/);
      }));

    it('refuses a flag that an argument of the app’s own outranks', () =>
      withApps({ args: ['--envoy-bin', envoyBinary()] }, async (pm2) => {
        const older = envoyBinary('OLDER_ENVOY_BIN');
        const { code, stderr } = await pm2.cli('redeploy', '--envoy-bin', older);
        assert.equal(code, 78, stderr);
        assert.match(stderr, /--envoy-bin.*argument/);
        assert.equal(pm2.generations()[0]?.number, 1);
      }));

    it('refuses options that a plugin does not take with 78, by the app’s own environment', () =>
      withApps({}, async (pm2) => {
        const { PM2_ENVOY_CONFIG: file = '', ...shell } = pm2.env;
        const runDir = join(pm2.folder, 'run');
        const redeploy = async (hook: string) => {
          const hooks = { [hook]: { url: `http://127.0.0.1:9/\${PM2_HOME}` } };
          const plugins = [['pm2-envoy/webhook', { hooks }]];
          writeFileSync(file, JSON.stringify({ ...pm2.settings, plugins }));
          const args = [CLI, 'redeploy', '--dry-run', '--run-dir', runDir];
          const { PM2_HOME: _, ...env } = shell;
          const ended = startProcess(pm2, process.execPath, args, { env, cwd: pm2.folder });
          return { code: await ended.ended, output: ended.output() };
        };
        const wrong = await redeploy('before:shutdown:fail-healt');
        assert.equal(wrong.code, 78, wrong.output);
        assert.match(
          wrong.output,
          /nothing was reloaded[\s\S]*did you mean before:shutdown:fail-health/,
        );
        const right = await redeploy('before:shutdown:fail-health');
        assert.equal(right.code, 0, right.output);
      }));

    it('refuses a run directory that can’t be made with 78', () =>
      withApps({}, async (pm2) => {
        const runDir = join(pm2.folder, 'run');
        const file = pm2.env['PM2_ENVOY_CONFIG'] ?? '';
        writeFileSync(file, JSON.stringify({ ...pm2.settings, 'run-dir': '/proc/pm2-envoy' }));
        const { code, stderr } = await pm2.cli('redeploy', '--run-dir', runDir);
        assert.equal(code, 78, stderr);
        assert.match(stderr, /nothing was reloaded[\s\S]*\/proc\/pm2-envoy/);
        assert.equal(pm2.generations()[0]?.number, 1);
      }));

    it('while its first Envoy is starting, starts another one in its place', () =>
      withPm2(
        {},
        async (pm2) => {
          pm2.env['ENVOY_BIN'] = writeEnvoy(pm2, 'sleep 600');
          void pm2.pm2('start', join(ROOT, 'ecosystem.config.js')).catch(() => undefined);
          await patiently('Envoy to be starting', () => pm2.generations().length === 1);
          const { code, stdout, stderr } = await pm2.cli('redeploy', '--envoy-bin', envoyBinary());
          assert.equal(code, 0, stderr);
          assert.match(
            stderr,
            /no Envoy serves: this starts Envoy 1\.40\.0 \(the app is launching\)/,
          );
          assert.match(stdout, /^generation 2 \(Envoy 1\.40\.0\) serves after [^;]*\n$/);
          await eventually('one generation', () => pm2.generations().length === 1);
        },
        false,
      ));

    it('has nothing to redeploy where the Envoy is someone else’s', () =>
      withPm2(
        { 'admin-address': 'http://127.0.0.1:1' },
        async (pm2) => {
          const { code, stderr } = await pm2.cli('redeploy');
          assert.equal(code, 78, stderr);
          assert.match(stderr, /admin-address http:\/\/127\.0\.0\.1:1 .*nothing to redeploy/);
        },
        false,
      ));
  });
});

/** The Envoys that `--envoy` finds installed: the data folder of a user who has fetched both. */
function keepEnvoys(pm2: TestPm2): void {
  const data = join(pm2.folder, 'data');
  for (const [version, name] of [
    ['1.40.0', 'ENVOY_BIN'],
    ['1.39.3', 'OLDER_ENVOY_BIN'],
  ] as const) {
    const path = join(data, 'pm2-envoy', 'envoy', version, 'envoy');
    mkdirSync(dirname(path), { recursive: true });
    symlinkSync(envoyBinary(name), path);
  }
  pm2.env['XDG_DATA_HOME'] = data;
}

/** Writes a bootstrap that answers `/text` with a body. */
function serveText(pm2: TestPm2, body: string | { filename: string }): void {
  const file = join(pm2.folder, 'envoy.yaml');
  writeBootstrap(file, pm2.ports, pm2.backend);
  const bootstrap = JSON.parse(readFileSync(file, 'utf8'));
  const [web] = bootstrap.static_resources.listeners;
  const [host] = web.filter_chains[0].filters[0].typed_config.route_config.virtual_hosts;
  const source = typeof body === 'string' ? { inline_string: body } : body;
  host.routes.unshift({ match: { path: '/text' }, direct_response: { status: 200, body: source } });
  writeFileSync(file, JSON.stringify(bootstrap, undefined, 2));
}

/** An Envoy that validates and names its version, and does something else instead of serving. */
function writeEnvoy(pm2: TestPm2, instead: string): string {
  const path = join(pm2.folder, 'other-envoy');
  writeFileSync(
    path,
    `#!/bin/sh\ncase "$*" in *--mode*|*--version*) ;; *) ${instead} ;; esac\nexec '${envoyBinary()}' "$@"\n`,
  );
  chmodSync(path, 0o755);
  return path;
}

/** Runs a test with the apps in the test's own folder, as in a user's own project. */
async function withApps(
  envoyApp: { args?: string[] },
  use: (pm2: TestPm2) => Promise<void>,
): Promise<void> {
  await withPm2(
    {},
    async (pm2) => {
      writeFileSync(join(pm2.folder, 'body.txt'), 'of the app');
      serveText(pm2, { filename: 'body.txt' });
      const ecosystem = join(pm2.folder, 'ecosystem.config.cjs');
      writeFileSync(
        ecosystem,
        `const { envoyApps } = require(${JSON.stringify(join(ROOT, 'dist/pm2/apps.js'))});
        const apps = envoyApps({ cwd: __dirname });
        Object.assign(apps.find(({ name }) => name === 'envoy'), ${JSON.stringify(envoyApp)});
        module.exports = { apps };`,
      );
      await pm2.pm2('start', ecosystem);
      await pm2.untilReady();
      await use(pm2);
    },
    false,
  );
}
