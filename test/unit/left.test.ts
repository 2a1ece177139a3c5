import assert from 'node:assert/strict';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import type { HostDrain } from '../../src/drain/host-drain.js';
import type { Generation, Generations } from '../../src/host/generations.js';
import { ownIdentity } from '../../src/host/process-identity.js';
import { silentLog } from '../../src/log.js';
import { endWhatRestartLeft } from '../../src/manager/left.js';
import type { Pm2Process } from '../../src/pm2/daemon.js';
import { daemonVersion, watchDaemonEnd } from '../../src/pm2/daemon-end.js';
import { makeFolder } from '../support/folder.js';
import { makePm2Process } from './fakes.js';

const GONE = { pid: 2 ** 22 + 1, startTime: 'gone' };

/** Whether the manager drains for good. */
async function drains(
  generation: object,
  apps: Partial<Pm2Process>[] | Error = [],
): Promise<boolean> {
  let drained = false;
  const newest = {
    ...{ number: 1, envoy: GONE, runner: GONE, orphaned: false },
    ...{ supervisor: { home: '/h', app: 'envoy', pmId: '0', folder: '/' } },
    leftAt: new Date().toISOString(),
    ...generation,
  } as unknown as Generation;
  const generations = {
    newest: () => newest,
    live: () => [newest],
    isAnyReserved: () => false,
  } as unknown as Generations;
  const drainForGood = async () => {
    drained = true;
  };
  const processes = async () => {
    if (apps instanceof Error) throw apps;
    return apps.map((app) => makePm2Process(app));
  };
  await endWhatRestartLeft(
    { generations, hostDrain: { drainForGood } as unknown as HostDrain, log: silentLog },
    { processes, reload: async () => undefined, remove: async () => undefined },
  );
  return drained;
}

describe('endWhatRestartLeft', () => {
  it('ends what a restart has left, once pm2 has no app for it', async () => {
    assert.equal(await drains({}), true);
    assert.equal(await drains({}, [{ status: 'stopped', pid: 0 }]), true);
    assert.equal(await drains({}, [{ pmId: 7, status: 'online', pid: 5 }]), true);
  });

  it('leaves it to the next runner, where pm2 is about to start one', async () => {
    for (const status of ['launching', 'online', 'waiting restart']) {
      assert.equal(await drains({}, [{ status, pid: 5 }]), false, status);
    }
  });

  it('leaves alone what nobody has left, what was left long ago, and what is looked after', async () => {
    assert.equal(await drains({ leftAt: undefined }), false);
    assert.equal(await drains({ leftAt: new Date(Date.now() - 120_000).toISOString() }), false);
    assert.equal(await drains({ runner: ownIdentity() }), false);
  });

  it('leaves it alone where pm2 can’t be asked: it may have been killed', async () => {
    assert.equal(await drains({}, new Error('no daemon')), false);
  });
});

describe('watchDaemonEnd', () => {
  const home = (t: TestContext, text?: string): string => {
    const { path, remove } = makeFolder();
    t.after(remove);
    mkdirSync(join(path, 'pm2'));
    if (text) writeFileSync(join(path, 'pm2/pm2.pid'), text);
    return join(path, 'pm2');
  };

  it('tells an end from a kill by the pid file', (t) => {
    const folder = home(t, '5');
    const hasEnded = watchDaemonEnd(folder, 5);
    assert.equal(hasEnded(), false);
    rmSync(join(folder, 'pm2.pid'));
    assert.equal(hasEnded(), true);
  });

  it('knows nothing of another daemon, and of one without a file', (t) => {
    const folder = home(t, '6');
    const hasEnded = watchDaemonEnd(folder, 5);
    rmSync(join(folder, 'pm2.pid'));
    assert.equal(hasEnded(), false);
    assert.equal(watchDaemonEnd(home(t), 5)(), false);
  });
});

describe('daemonVersion', () => {
  it('is that of the pm2 whose container runs the app', (t) => {
    const { path, remove } = makeFolder();
    t.after(remove);
    const container = join(path, 'lib/ProcessContainer.js');
    assert.equal(daemonVersion(container), Number.POSITIVE_INFINITY);
    writeFileSync(join(path, 'package.json'), JSON.stringify({ name: 'pm2', version: '6.0.14' }));
    assert.equal(daemonVersion(container), 6);
  });
});
