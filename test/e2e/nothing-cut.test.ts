import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { describe, it } from 'node:test';
import { createAdminClient } from '../../src/admin/client.js';
import type { Generation } from '../../src/host/generations.js';
import { isAlive } from '../../src/host/process-identity.js';
import { startLoad } from '../support/load.js';
import { pidsWith, preparePm2, type TestPm2 } from '../support/pm2.js';
import { eventually, patiently } from '../support/wait.js';

/** A way to stop something, and what has to be left of it. */
interface Way {
  name: string;
  /** Begins to stop; resolves when the command has come back. */
  act(at: Stage): Promise<unknown>;
  /** `nothing`: every process ends. Else what lives on. */
  leaves: 'nothing' | 'manager' | 'new generation' | 'drained Envoy';
  /** The same, of a host that was drained before. */
  leavesDrained?: 'no generation';
  /** Asks pm2 for Envoy: who waits for the drain of the host hears that it is over. */
  asksBack?: true;
  underRuntime?: true;
}

interface Stage {
  pm2: TestPm2;
  generation: Generation;
  runtime: ChildProcess | undefined;
}

const WAYS: readonly Way[] = [
  {
    name: 'SIGTERM to pm2-runtime',
    underRuntime: true,
    act: signalRuntime('SIGTERM'),
    leaves: 'nothing',
  },
  {
    name: 'SIGINT to pm2-runtime',
    underRuntime: true,
    act: signalRuntime('SIGINT'),
    leaves: 'nothing',
  },
  { name: 'pm2 stop envoy', act: ({ pm2 }) => pm2.pm2('stop', 'envoy'), leaves: 'manager' },
  { name: 'pm2 stop all', act: ({ pm2 }) => pm2.pm2('stop', 'all'), leaves: 'nothing' },
  {
    name: 'pm2 restart envoy',
    act: ({ pm2 }) => pm2.pm2('restart', 'envoy'),
    leaves: 'new generation',
    asksBack: true,
  },
  {
    name: 'pm2 reload envoy',
    act: ({ pm2 }) => pm2.pm2('reload', 'envoy'),
    leaves: 'new generation',
    asksBack: true,
  },
  { name: 'pm2 delete all', act: ({ pm2 }) => pm2.pm2('delete', 'all'), leaves: 'nothing' },
  { name: 'pm2 kill', act: ({ pm2 }) => pm2.pm2('kill'), leaves: 'nothing' },
  {
    name: 'SIGTERM to the daemon',
    act: async ({ pm2 }) => process.kill(pm2.daemonPid(), 'SIGTERM'),
    leaves: 'nothing',
  },
  {
    name: 'SIGTERM to the runner',
    act: async ({ generation }) => process.kill(generation.runner.pid, 'SIGTERM'),
    leaves: 'new generation',
    leavesDrained: 'no generation',
  },
  {
    name: 'SIGTERM to the manager',
    act: async ({ pm2 }) => process.kill(await pm2.pidOf('envoy-manager'), 'SIGTERM'),
    leaves: 'drained Envoy',
  },
];

describe('20 requests, a stream, a TCP connection and a WebSocket are not cut', {
  concurrency: 4,
}, () => {
  for (const way of WAYS) {
    it(`by ${way.name}`, () => nothingIsCut(way, false));
    it(`by /shutdown and then ${way.name}`, () => nothingIsCut(way, true));
  }
});

async function nothingIsCut(way: Way, shutdownFirst: boolean): Promise<void> {
  const pm2 = await preparePm2();
  try {
    const runtime = way.underRuntime ? pm2.runtime() : undefined;
    if (runtime) await pm2.untilReady();
    else await pm2.start();
    const [generation] = pm2.generations();
    assert.ok(generation);
    const load = await startLoad(pm2.ports);

    const caller = shutdownFirst ? pm2.http('POST', '/shutdown') : undefined;
    if (caller) await eventually('the drain to wait', async () => (await phase(pm2)) === 'wait');
    const acted = way.act({ pm2, generation, runtime });

    await patiently('an app to be told', () => /: (stopping|leaving)/.test(appLogs(pm2)));
    await patiently('the listeners to close', () => hasClosedListeners(generation));
    await load.finish();
    await load.heldAreAlive();
    assert.equal(isAlive(generation.envoy), true, 'Envoy waits for the held connections');
    load.letGo();
    await acted;
    if (caller) {
      const { status, body } = await caller;
      const said = `${status} ${JSON.parse(body).outcome}`;
      // The new generation may come before the last connection has ended, or after it.
      if (way.asksBack) assert.match(said, /^(409 cancelled|200 drained)$/);
      else assert.equal(said, '200 drained');
    }
    const leaves = (shutdownFirst && way.leavesDrained) || way.leaves;
    await LEAVES[leaves]({ pm2, generation, runtime });
    assertExitCodes(pm2);
  } finally {
    await pm2.stop();
  }
}

type Left = Way['leaves'] | NonNullable<Way['leavesDrained']>;
const LEAVES: Readonly<Record<Left, (at: Stage) => Promise<void>>> = {
  nothing: async ({ pm2, generation, runtime }) => {
    await ended(generation);
    await eventually('every app to end', () => pm2.generations().length === 0);
    if (runtime) {
      await eventually('pm2-runtime to end', () => runtime.exitCode !== null);
      assert.equal(runtime.exitCode, 0);
    }
    const apps = pidsWith(pm2.folder).filter((pid) => pid !== pm2.daemonPid());
    await eventually('no process to be left', () =>
      apps.every((pid) => !pidsWith(pm2.folder).includes(pid)),
    );
  },
  manager: async ({ pm2, generation }) => {
    await ended(generation);
    assert.equal(pm2.generations().length, 0);
    assert.equal((await pm2.http('GET', '/healthz')).status, 200);
    const { body } = await pm2.http('GET', '/readyz');
    assert.match(body, /drained|envoy-gone/);
  },
  'new generation': async ({ pm2, generation }) => {
    await ended(generation);
    await pm2.untilReady();
    assert.equal(pm2.generations().length, 1);
    assert.notEqual(pm2.generations()[0]?.number, generation.number);
  },
  'no generation': async ({ pm2, generation }) => {
    await ended(generation);
    await patiently('the runner to be back', async () => {
      const pid = await pm2.pidOf('envoy');
      return pid > 0 && pid !== generation.runner.pid;
    });
    const { status, body } = await pm2.http('GET', '/readyz');
    assert.deepEqual([status, JSON.parse(body).error.code], [503, 'drained']);
    assert.equal(pm2.generations().length, 0);
  },
  'drained Envoy': async ({ pm2, generation }) => {
    await patiently('the manager to be back', async () => {
      const { status, body } = await pm2.http('GET', '/readyz');
      return status === 503 && JSON.parse(body).error.code === 'drained';
    });
    assert.equal(isAlive(generation.envoy), true, 'the runner still holds Envoy');
    await pm2.pm2('kill');
    await ended(generation);
  },
};

function appLogs(pm2: TestPm2): string {
  return pm2.log('envoy') + pm2.log('envoy-manager');
}

function hasClosedListeners({ adminSocket }: Generation): Promise<boolean | undefined> {
  const admin = createAdminClient({ kind: 'unix', path: adminSocket });
  return admin.hasClosedListeners().finally(admin.close);
}

async function ended(generation: Generation): Promise<void> {
  await eventually('Envoy to end', () => !isAlive(generation.envoy));
  await eventually('its runner to end', () => !isAlive(generation.runner));
}

async function phase(pm2: TestPm2): Promise<string> {
  return JSON.parse((await pm2.http('GET', '/status')).body).phase;
}

/** pm2 writes down how each app ended: all by themselves, with 0. */
function assertExitCodes(pm2: TestPm2): void {
  const log = pm2.ownLog();
  const codes = [...log.matchAll(/exited with code \[(\d+)\] via signal \[(\w+)\]/g)];
  assert.ok(codes.length > 0, 'pm2 has seen an app end');
  for (const [line, code] of codes) assert.equal(code, '0', `${line}\n${log}`);
  assert.doesNotMatch(log, /still not killed|SIGKILL/);
}

function signalRuntime(signal: NodeJS.Signals): Way['act'] {
  return async ({ runtime }) => runtime?.kill(signal);
}
