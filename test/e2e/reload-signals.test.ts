import assert from 'node:assert/strict';
import { chmodSync, existsSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, it } from 'node:test';
import { type Generation, isAttended } from '../../src/host/generations.js';
import { identify, isAlive } from '../../src/host/process-identity.js';
import { type Held, type HeldRequest, holdRequest, holdTcp, request } from '../support/clients.js';
import { envoyBinary } from '../support/envoy.js';
import { pidsWith, preparePm2, statusOf, type TestPm2 } from '../support/pm2.js';
import { eventually, patiently } from '../support/wait.js';

/** How far a reload has come when something happens to it. */
type Stage = 'validating' | 'starting' | 'handing over';
const ECOSYSTEM = resolve(import.meta.dirname, '../../ecosystem.config.js');
const STAGES: readonly Stage[] = ['validating', 'starting', 'handing over'];

/** A reload under way: generation 1 has a connection and a request, the new one is at the stage. */
interface Scene {
  pm2: TestPm2;
  stage: Stage;
  old: Generation;
  runtime: number;
  newRunner(): Promise<number>;
  newEnvoy(): number;
}

/** What ends the app: no generation may be left, and nothing may have been cut. */
const ENDS: Readonly<Record<string, (scene: Scene) => Promise<unknown> | unknown>> = {
  'pm2 stop envoy': ({ pm2 }) => pm2.pm2('stop', 'envoy'),
  'pm2 kill': ({ pm2 }) => pm2.pm2('kill'),
  'pm2 delete all': ({ pm2 }) => pm2.pm2('delete', 'all'),
  'SIGTERM to pm2-runtime': ({ runtime }) => process.kill(runtime, 'SIGTERM'),
};

/** What the reload must survive: one generation is left, which serves under a runner. */
const FAULTS: Readonly<
  Record<string, { at: readonly Stage[]; act(scene: Scene): Promise<unknown> | unknown }>
> = {
  'the old runner killed -9': { at: STAGES, act: ({ old }) => kill(old.runner.pid) },
  'the new runner killed -9': { at: STAGES, act: async (scene) => kill(await scene.newRunner()) },
  'the old Envoy killed -9': { at: STAGES, act: ({ old }) => kill(old.envoy.pid) },
  'the new Envoy killed -9': {
    at: ['starting', 'handing over'],
    act: (scene) => kill(scene.newEnvoy()),
  },
  'the daemon killed -9, and pm2 start': {
    at: STAGES,
    act: async ({ pm2 }) => {
      await kill(pm2.daemonPid());
      return pm2.pm2('start', ECOSYSTEM);
    },
  },
  'another pm2 reload': {
    at: STAGES,
    act: ({ pm2 }) => assert.rejects(pm2.pm2('reload', 'envoy'), { code: 1 }),
  },
  'pm2 restart envoy': { at: STAGES, act: ({ pm2 }) => pm2.pm2('restart', 'envoy') },
};

describe('a reload that is ended in the middle leaves nothing, and cuts nothing', {
  concurrency: 3,
}, () => {
  for (const [what, act] of Object.entries(ENDS)) {
    for (const stage of STAGES) {
      it(`${what}, ${stage}`, () =>
        inTheMiddle(stage, what.includes('runtime'), async (scene, { held, slow }) => {
          const { pm2, old } = scene;
          const before = stopsIn(pm2);
          const ending = Promise.resolve(act(scene));
          ending.catch(() => undefined);
          await patiently('a runner to be told', () => stopsIn(pm2) > before);
          assert.equal((await slow.finish()).body, 'came whole');
          await held.echo('still here');
          assert.equal(isAlive(old.envoy), true, 'it waits for the connection');
          held.close();
          await ending;
          await eventually('no generation', () => pm2.generations().length === 0, 30_000);
          await eventually('no runner', () => runnersOf(pm2).length === 0, 30_000);
        }));
    }
  }
});

describe('a reload in which something fails leaves one generation in service', {
  concurrency: 3,
}, () => {
  for (const [what, { at, act }] of Object.entries(FAULTS)) {
    for (const stage of at) {
      it(`${what}, ${stage}`, () =>
        inTheMiddle(stage, false, async (scene, { held, slow }) => {
          const { pm2, old } = scene;
          const survives = what !== 'the old Envoy killed -9';
          await act(scene);
          if (survives) {
            assert.equal((await slow.finish()).body, 'came whole');
            await held.echo('still here');
          }
          held.close();
          await patiently('one generation that is attended by what pm2 runs', async () => {
            const [first, ...others] = pm2.generations();
            const isStaying = first && !existsSync(join(first.directory, 'handover-1-1.json'));
            if (others.length > 0 || !isStaying || !first.ready) return false;
            return isAttended(first) && first.runner.pid === (await pm2.pidOf('envoy'));
          });
          const [left] = pm2.generations();
          assert.ok(left);
          await eventually('Envoy to serve', async () => (await request(pm2.ports.http)).status);
          await pm2.untilReady();
          assert.equal(isAlive(left.envoy), true);
          if (left.number > old.number) assert.equal(isAlive(old.envoy), false);

          await pm2.pm2('stop', 'envoy');
          await eventually('no generation', () => pm2.generations().length === 0, 30_000);
          await eventually('no runner', () => runnersOf(pm2).length === 0, 30_000);
        }));
    }
  }
});

describe('a drain that begins in the middle of a reload', { concurrency: 3 }, () => {
  for (const stage of STAGES) {
    it(`leaves no generation in service, ${stage}, until it is asked for`, () =>
      inTheMiddle(stage, false, async ({ pm2 }, { held, slow }) => {
        const answer = pm2.http('POST', '/shutdown');
        await eventually('the drain', async () => (await statusOf(pm2)).phase !== 'idle');
        assert.equal((await slow.finish()).body, 'came whole');
        held.close();
        assert.equal(JSON.parse((await answer).body).outcome, 'drained');
        await eventually('one generation', () => pm2.generations().length === 1, 30_000);
        assert.equal((await statusOf(pm2)).outcome, 'drained');
        const { status, body } = await pm2.http('GET', '/readyz');
        assert.deepEqual([status, JSON.parse(body).error.code], [503, 'drained']);
        await assert.rejects(request(pm2.ports.http), { code: 'ECONNREFUSED' });

        await pm2.pm2('restart', 'envoy');
        await pm2.untilReady();
        assert.equal((await request(pm2.ports.http)).status, 200);
      }));
  }
});

async function inTheMiddle(
  stage: Stage,
  underRuntime: boolean,
  use: (scene: Scene, load: { held: Held; slow: HeldRequest }) => Promise<void>,
): Promise<void> {
  const pm2 = await preparePm2();
  try {
    const slowDown = slowEnvoy(pm2);
    const runtime = underRuntime ? pm2.runtime() : undefined;
    if (runtime) await pm2.untilReady();
    else await pm2.start();
    const [old] = pm2.generations();
    assert.ok(old);
    const held = await holdTcp(pm2.ports.tcp);
    const slow = await holdRequest(pm2.ports.http);
    slowDown(stage);
    void pm2.pm2('reload', 'envoy').catch(() => undefined);
    const newEnvoy = (): number => pm2.generations().find(isNew)?.envoy.pid ?? 0;
    const isNew = ({ number }: Generation): boolean => number > old.number;
    await patiently(`the stage ${stage}`, () => {
      switch (stage) {
        case 'validating':
          return existsSync(join(pm2.folder, 'validating'));
        case 'starting':
          return newEnvoy() > 0;
        case 'handing over':
          return existsSync(join(old.directory, 'handover-1-1.json'));
      }
    });
    const newRunner = async (): Promise<number> => {
      const pid = await pm2.pidOf('envoy');
      assert.notEqual(pid, old.runner.pid);
      return pid;
    };
    await use({ pm2, stage, old, runtime: runtime?.pid ?? 0, newRunner, newEnvoy }, { held, slow });
  } finally {
    await pm2.stop();
  }
}

/** Puts a script in Envoy's place that can be told to take its time when it validates, or starts. */
function slowEnvoy(pm2: TestPm2): (stage: Stage) => void {
  const path = join(pm2.folder, 'slow-envoy');
  const pace = join(pm2.folder, 'pace');
  writeFileSync(
    path,
    `#!/bin/sh
case "$(cat '${pace}' 2>/dev/null) $*" in
  *--version*) ;;
  validating*--mode*) touch '${join(pm2.folder, 'validating')}'; sleep 2 ;;
  *--mode*) ;;
  starting*) sleep 2 ;;
esac
exec '${envoyBinary()}' "$@"
`,
  );
  chmodSync(path, 0o755);
  pm2.env['ENVOY_BIN'] = path;
  return (stage) => writeFileSync(pace, stage);
}

/** How often a runner has said that it was told to stop. */
function stopsIn(pm2: TestPm2): number {
  return pm2.log('envoy').split(': stopping').length;
}

function runnersOf(pm2: TestPm2): number[] {
  return pidsWith(`${pm2.folder}/pm2/logs/envoy-out`);
}

async function kill(pid: number): Promise<void> {
  assert.ok(pid > 0);
  process.kill(pid, 'SIGKILL');
  await eventually('it to be dead', () => !identify(pid));
}
