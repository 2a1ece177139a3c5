import assert from 'node:assert/strict';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { cluster, tcpTo, writeBootstrap } from '../support/bootstrap.js';
import { request } from '../support/clients.js';
import { requestsOneByOne } from '../support/one-by-one.js';
import { preparePm2, statusOf, type TestPm2, withPm2 } from '../support/pm2.js';
import { startProcess } from '../support/process.js';
import { fromFile, fromNobody, ldsAnswer, webListener } from '../support/two-generations.js';
import { eventually } from '../support/wait.js';

describe('A new generation that lacks what the old one serves', { concurrency: 3 }, () => {
  describe('on one host', { concurrency: 1 }, () => {
    let pm2: TestPm2;
    before(async () => {
      // The last test waits for its end.
      pm2 = await preparePm2({ 'drain-timeout': '12s' });
      writeLds(pm2);
      writeManaged(pm2);
      await pm2.start();
    });
    after(() => pm2.stop());
    const serving = () => pm2.generations().at(-1) ?? assert.fail('no generation');

    it('does not take over, by redeploy, restart or kill -9, and nothing is lost meanwhile', async () => {
      const { number } = serving();
      writeFileSync(join(pm2.folder, 'lds.json'), '{"resources": [{"@type": "nonsense"}]}');
      const load = requestsOneByOne(pm2.ports.http, 2);
      const { code, stdout, stderr } = await pm2.cli('redeploy');
      assert.equal(code, 78, stderr);
      const { failedReload } = serving();
      assert.match(failedReload?.reason ?? '', /generation \d+ lacks what/);
      const says = new RegExp(
        `lacks what generation ${number} serves: 127\\.0\\.0\\.1:${pm2.ports.http} \\(listener web\\): LDS: its source.*nonsense`,
      );
      assert.match(stdout, says);
      assert.match(stdout, new RegExp(`generation ${number} \\(Envoy 1\\.40\\.0\\) keeps serving`));

      for (const act of ['restart', 'kill'] as const) {
        const runner = await pm2.pidOf('envoy');
        if (act === 'restart') await pm2.pm2('restart', 'envoy');
        else {
          rmSync(join(pm2.folder, 'lds.json'));
          process.kill(runner, 'SIGKILL');
        }
        await eventually(
          `another runner to have adopted it after ${act}`,
          () => {
            const [only, ...more] = pm2.generations();
            return more.length === 0 && only?.failedReload && only.runner.pid !== runner;
          },
          60_000,
        );
      }
      assert.equal(serving().number, number);
      const gone = await pm2.cli('redeploy');
      assert.equal(gone.code, 78, gone.stdout + gone.stderr);
      assert.match(gone.stdout, /lds\.json' does not exist/);
      assert.deepEqual({ failed: await load.stop() }, { failed: [] });
      assert.equal((await pm2.http('GET', '/readyz')).status, 200);
      const shown = await pm2.cli('status');
      assert.match(
        shown.stdout,
        /^last reload {2}failed at \S+: Envoy exited with code 1 before it was LIVE: .*lds\.json' does not exist/m,
      );
    });

    it('takes over once the mistake is gone', async () => {
      writeLds(pm2);
      const { code, stdout, stderr } = await pm2.cli('redeploy');
      assert.equal(code, 0, stdout + stderr);
      assert.equal((await request(pm2.ports.http)).status, 200);
    });

    it('is shown where the bootstrap has fewer listeners, and needs --yes', async () => {
      const { number } = serving();
      writeManaged(pm2, { tcp: false });
      const gone = `127\\.0\\.0\\.1:${pm2.ports.tcp} \\(listener tcp\\)`;
      const refused = await pm2.cli('redeploy');
      assert.equal(refused.code, 78, refused.stderr);
      assert.match(refused.stderr, new RegExp(`^removed {4}${gone}$`, 'm'));
      assert.match(refused.stderr, new RegExp(`nothing was reloaded: .*${gone}.*--yes`));
      const dry = await pm2.cli('redeploy', '--dry-run', '--json');
      assert.match(JSON.parse(dry.stdout).changes.removed[0], new RegExp(gone));
      const command = `'${process.execPath}' '${pm2.cliPath}' redeploy`;
      const untilAsked = async () => {
        const asked = startProcess(pm2, 'script', ['-qefc', command, '/dev/null']);
        await eventually(
          'the question',
          () => asked.output().includes('Nothing will listen on'),
          60_000,
        );
        return asked;
      };
      const asked = await untilAsked();
      asked.child.stdin?.write('n\n');
      assert.equal(await asked.ended, 78, asked.output());
      assert.doesNotMatch(asked.output(), /--yes/, 'the answer was given');
      const interrupted = await untilAsked();
      interrupted.child.stdin?.write('\x03');
      assert.equal(await interrupted.ended, 130, interrupted.output());
      assert.match(interrupted.output(), /nothing was reloaded/);
      assert.equal(serving().number, number);
      const done = await pm2.cli('redeploy', '--yes');
      assert.equal(done.code, 0, done.stdout + done.stderr);
      await assert.rejects(request(pm2.ports.tcp), /ECONNREFUSED/);
    });

    it('needs --yes as well where LDS names fewer listeners', async () => {
      writeManaged(pm2);
      assert.equal((await pm2.cli('redeploy')).code, 0);
      writeFileSync(join(pm2.folder, 'lds.json'), JSON.stringify(ldsAnswer([])));
      const refused = await pm2.cli('redeploy');
      assert.equal(refused.code, 78, refused.stderr);
      assert.match(refused.stdout, /LDS no longer has it.*`pm2-envoy redeploy --yes`/);
      assert.equal((await request(pm2.ports.http)).status, 200);
      const done = await pm2.cli('redeploy', '--yes');
      assert.equal(done.code, 0, done.stdout + done.stderr);
      await assert.rejects(request(pm2.ports.http), /ECONNREFUSED/);
    });

    it('is not even tried with enable_reuse_port: false, says --dry-run, and so does the doctor', async () => {
      const { number } = serving();
      writeManaged(pm2, { tcp: { enable_reuse_port: false } });
      for (const args of [['redeploy', '--dry-run'], ['redeploy']]) {
        const { code, stdout, stderr } = await pm2.cli(...args);
        assert.deepEqual([code, stdout], [78, ''], stderr);
        assert.match(
          stderr,
          /listener tcp has enable_reuse_port: false now, so it can't listen on/,
        );
      }
      const doctor = await pm2.cli('doctor');
      assert.equal(doctor.code, 1, doctor.stdout);
      assert.match(doctor.stdout, /listener tcp has enable_reuse_port: false now/);
      assert.equal(serving().number, number);
    });

    it('is put instead of one whose admin interface is gone, with 5: what was cut is not known', async () => {
      writeManaged(pm2);
      rmSync(serving().adminSocket);
      const { code, stdout, stderr } = await pm2.cli('redeploy');
      assert.equal(code, 5, stdout + stderr);
      assert.match(stdout, /has ended: admin-unreachable, an unknown number of connections cut/);
    });
  });

  it('as the first one of a host is LIVE without a listener: /readyz, status and doctor say so', () =>
    withPm2(
      {},
      async (pm2) => {
        writeBootstrap(join(pm2.folder, 'envoy.yaml'), pm2.ports, pm2.backend, {
          node: { id: 'test', cluster: 'test' },
          dynamic_resources: { lds_config: fromNobody('REST') },
          static_resources: { clusters: [cluster('nobody', 1)] },
        });
        await pm2.pm2('start', pm2.ecosystem);
        const reply = await eventually(
          '/readyz to know',
          async () => {
            const { status, body } = await pm2.http('GET', '/readyz');
            return status === 503 && body.includes('no-listeners') && body;
          },
          60_000,
        );
        assert.match(reply, /Envoy is LIVE, but has no listener/);
        await eventually('/status', async () => (await statusOf(pm2)).envoy.listeners === 0);
        assert.match((await pm2.cli('status')).stdout, /^listeners +none: Envoy serves nothing/m);
        const doctor = await pm2.cli('doctor');
        assert.equal(doctor.code, 1);
        assert.match(doctor.stdout, /generation 1 has no listener: it serves nothing/);
        assert.match(doctor.stdout, /generation 1 lacks listeners \(LDS\): nothing came within/);
      },
      false,
    ));
});

function writeLds(pm2: TestPm2): void {
  const listeners = [webListener('web', pm2.ports.http)];
  writeFileSync(join(pm2.folder, 'lds.json'), JSON.stringify(ldsAnswer(listeners)));
}

/** A bootstrap whose HTTP listener comes from a file; the TCP one is its own, unless told otherwise. */
function writeManaged(pm2: TestPm2, { tcp = {} }: { tcp?: object | false } = {}): void {
  const listener = {
    name: 'tcp',
    address: { socket_address: { address: '127.0.0.1', port_value: pm2.ports.tcp } },
    filter_chains: [{ filters: [tcpTo('tcp')] }],
  };
  writeBootstrap(join(pm2.folder, 'envoy.yaml'), pm2.ports, pm2.backend, {
    node: { id: 'test', cluster: 'test' },
    dynamic_resources: { lds_config: fromFile(join(pm2.folder, 'lds.json')) },
    static_resources: {
      listeners: tcp ? [{ ...listener, ...tcp }] : [],
      clusters: [cluster('http', pm2.backend.httpPort), cluster('tcp', pm2.backend.tcpPort)],
    },
  });
}
