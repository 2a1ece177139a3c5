import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { cluster } from '../support/bootstrap.js';
import { type MemoryGroup, makeMemoryGroup } from '../support/memory-group.js';
import { preparePm2, type TestPm2 } from '../support/pm2.js';
import { eventually, patiently } from '../support/wait.js';

/** Makes Envoy the largest process of all. */
const CLUSTERS = 6_000;
/** Enough for another runner, and too little for another Envoy. */
const LEFT_MB = 110;

const group = makeMemoryGroup();
const skip = group ? false : 'no memory cgroup can be made here: run it as root';

describe('an Envoy that has no room for a second one beside it', { skip }, () => {
  let pm2: TestPm2;
  before(async () => {
    pm2 = await preparePm2();
    const file = String(pm2.settings['envoy-config']);
    const bootstrap = JSON.parse(readFileSync(file, 'utf8'));
    for (let number = 0; number < CLUSTERS; number += 1) {
      bootstrap.static_resources.clusters.push(cluster(`unused-${number}`, 9));
    }
    writeFileSync(file, JSON.stringify(bootstrap));
    await pm2.pm2('ping');
    own().take(pm2.daemonPid());
    await pm2.start();
    own().leaveMb(LEFT_MB);
  });
  after(async () => {
    await pm2?.stop();
    await eventually('the cgroup to be empty', () => {
      group?.remove();
      return true;
    });
  });

  const own = (): MemoryGroup => group ?? assert.fail();
  const servingPid = (): number => pm2.generations()[0]?.envoy.pid ?? 0;
  const isServed = async (): Promise<boolean> =>
    (await fetch(`http://127.0.0.1:${pm2.ports.http}/`)).ok;

  it('survives redeploy, its dry run and the doctor, which say why they do not check', async () => {
    const pid = servingPid();
    for (const words of [['redeploy'], ['redeploy', '--dry-run']]) {
      const { code, stderr } = await pm2.cli(...words);
      assert.equal(code, 1, stderr);
      assert.match(
        stderr,
        /the bootstrap was not checked, .* has \d+ MiB, and the memory limit of \d+ MiB leaves \d+ MiB\. .*--force/,
      );
    }
    const doctor = await pm2.cli('doctor');
    assert.match(doctor.stdout, /^ok +configuration +valid; Envoy .* was not asked/m);
    const asked = await pm2.cli('doctor', '--validate');
    assert.match(asked.stdout, /^warning +configuration +the bootstrap was not checked/m);
    assert.equal(own().kills(), 0);
    assert.equal(servingPid(), pid);
    assert.ok(await isServed());
  });

  it('survives a reload all the same: the kernel ends the new one', async () => {
    const pid = servingPid();
    own().leaveMb(LEFT_MB);
    const { code, stdout } = await pm2.cli('redeploy', '--force');
    assert.equal(code, 1);
    assert.match(stdout, /memory ran out \(the memory limit of \d+ MiB\), and the kernel ended it/);
    assert.ok(own().kills() > 0);
    assert.equal(servingPid(), pid);
    assert.ok(await isServed());
  });

  it('is named as ended by the kernel when it is', async () => {
    const pid = servingPid();
    own().leaveMb(LEFT_MB);
    // Each smaller than Envoy, together more than there is.
    const hogs = [1, 2, 3].map(() => {
      const hog =
        'const kept = Buffer.alloc(100 * 2 ** 20, 1); process.stdin.resume().on("end", () => kept)';
      const child = spawn('sh', ['-c', 'read go; exec "$0" -e "$1"', process.execPath, hog]);
      own().take(child.pid ?? 0);
      child.stdin.write('go\n');
      return child;
    });
    await patiently('the runner to say it', () =>
      /Envoy ended(?: by SIGKILL)? by itself: memory ran out \(the memory limit of \d+ MiB\), and the kernel ended it/.test(
        pm2.log('envoy'),
      ),
    );
    for (const hog of hogs) hog.kill('SIGKILL');
    await patiently('another one to serve', () => servingPid() !== pid && isServed());
  });
});
