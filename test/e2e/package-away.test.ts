import assert from 'node:assert/strict';
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { copyPackage, type PackageCopy } from '../support/package-copy.js';
import { preparePm2, type TestPm2 } from '../support/pm2.js';
import { eventually, patiently } from '../support/wait.js';

const SAID = /the app envoy can't be loaded: .*; are the files of pm2-envoy complete/;

describe('the files of the package are away', () => {
  let pm2: TestPm2;
  let copy: PackageCopy;
  before(async () => {
    pm2 = await preparePm2();
    // pm2 signals the old runner after this time, whatever has become of the new one.
    copy = copyPackage(join(pm2.folder, 'package'), { listen_timeout: 3_000 });
    await pm2.pm2('start', copy.ecosystem);
    await pm2.untilReady();
  });
  after(() => pm2.stop());

  const away = (name: string): string => join(copy.path, `${name}.away`);
  const take = (name: string): void => renameSync(join(copy.path, name), away(name));
  const bring = (name: string): void => renameSync(away(name), join(copy.path, name));
  const served = async (): Promise<boolean> => {
    const reply = await fetch(`http://127.0.0.1:${pm2.ports.http}/`);
    return reply.ok;
  };
  const crash = (): void => {
    for (const { envoy } of pm2.generations()) process.kill(envoy.pid, 'SIGKILL');
  };
  const untilReplaced = async (number: number): Promise<void> => {
    await patiently(
      'a new Envoy to serve',
      async () => (pm2.generations().at(-1)?.number ?? 0) > number && (await served()),
    );
    await pm2.untilReady();
  };

  it('while Envoy crashes: one line says so, and it serves again when they are back', async () => {
    const { number } = pm2.generations().at(-1) ?? { number: 0 };
    take('dist/runner');
    crash();
    await patiently('the runner to say it', () => SAID.test(pm2.log('envoy')));
    bring('dist/runner');
    await untilReplaced(number);
  });

  it('all of them, the script of the app among them: it serves again when they are back', async () => {
    const { number } = pm2.generations().at(-1) ?? { number: 0 };
    const starts = async (): Promise<number> => {
      const list: { name: string; pm2_env: { restart_time: number } }[] = JSON.parse(
        await pm2.pm2('jlist'),
      );
      return list.find(({ name }) => name === 'envoy')?.pm2_env.restart_time ?? 0;
    };
    const before = await starts();
    take('dist');
    crash();
    await patiently('pm2 to have tried', async () => (await starts()) >= before + 3);
    bring('dist');
    await untilReplaced(number);
  });

  it('when a reload needs them: the old Envoy keeps serving, and a later start takes over', async () => {
    const [{ number, envoy } = { number: 0, envoy: { pid: 0 } }] = pm2.generations().slice(-1);
    rmSync(join(copy.path, 'node_modules'));
    take('dist/runner');
    await pm2.pm2('reload', 'envoy').catch(() => undefined);
    assert.deepEqual(
      pm2.generations().map((one) => one.envoy.pid),
      [envoy.pid],
    );
    assert.equal((await pm2.http('GET', '/readyz')).status, 200);
    assert.ok(await served());
    bring('dist/runner');
    await untilReplaced(number);
    await eventually('the old one to end', () => pm2.generations().length === 1, 30_000);
  });

  it('redeploy and doctor say it before pm2 is asked, also of another version', async () => {
    const [before = assert.fail()] = pm2.generations();
    const ask = async (...words: string[]) => {
      const { code, stdout, stderr } = await pm2.cli(...words);
      return { code, said: `${stdout}${stderr}` };
    };
    const file = join(copy.path, 'package.json');
    const own = readFileSync(file, 'utf8');
    writeFileSync(file, JSON.stringify({ ...JSON.parse(own), version: '0.0.7' }));
    const other = /the app envoy runs pm2-envoy 0\.0\.7 \(.*dist\/apps\/runner\.js\), and this is /;
    for (const words of [['redeploy'], ['doctor']]) {
      const { code, said } = await ask(...words);
      assert.equal(code, 1, said);
      assert.match(said, other);
    }
    writeFileSync(file, own);
    take('dist');
    const gone = /the app envoy runs .*dist\/apps\/runner\.js, which no longer exists/;
    for (const words of [['redeploy', '--force'], ['doctor']]) {
      const { code, said } = await ask(...words);
      assert.equal(code, 1, said);
      assert.match(said, gone);
    }
    bring('dist');
    assert.deepEqual(
      pm2.generations().map(({ number }) => number),
      [before.number],
    );
  });
});
