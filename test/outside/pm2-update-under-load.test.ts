import assert from 'node:assert/strict';
import { after, describe, it, type TestContext } from 'node:test';
import { makeFolder } from '../support/folder.js';
import { installPm2 } from '../support/other-pm2.js';
import { PM2 } from '../support/pm2.js';
import { ACCEPT_QUEUE, between, type CommandHost, startCommandHost } from '../support/pm2-host.js';
import { describeTraffic } from '../support/traffic.js';

const OLDER = ['5.4.3', '6.0.14'];

describe('an older daemon of pm2 is replaced by this one, under load', () => {
  const { path: folder, remove } = makeFolder();
  after(remove);

  for (const version of OLDER) {
    describe(version, () => {
      const older = installPm2(folder, version);

      it('by pm2 update: nothing is cut, and not served until the new daemon has started it', (t) =>
        replaced(t, older, async (host) => {
          await host.run('pm2 update');
          return { isServed: false };
        }));

      it('by pm2 save, kill -9 of the daemon and pm2 resurrect: nothing is lost', (t) =>
        replaced(t, older, async (host) => {
          await host.run('pm2 save');
          process.kill(host.pm2.daemonPid(), 'SIGKILL');
          await host.run('pm2 resurrect');
          return { isServed: true };
        }));
    });
  }
});

async function replaced(
  t: TestContext,
  older: string,
  act: (host: CommandHost) => Promise<{ isServed: boolean }>,
): Promise<void> {
  const host = await startCommandHost(older);
  try {
    const [{ number } = assert.fail('no generation')] = host.pm2.generations();
    const first = await host.traffic.look();
    host.pm2.usePm2(PM2);
    const { isServed } = await act(host);
    await host.untilInstances(1, number + 1);
    const last = await host.traffic.stop();
    const { requests, lost, cut, slowCut } = between(first, last);
    t.diagnostic(`${requests} requests, ${lost} lost, ${cut} of these cut`);
    if (isServed) assert.equal(lost, 0, describeTraffic(last));
    assert.equal(slowCut, 0, describeTraffic(last));
    assert.ok(cut <= ACCEPT_QUEUE, describeTraffic(last));
    assert.equal(lost > 0, !isServed, describeTraffic(last));
    const versions = host.pm2.ownLog().match(/PM2 version +: \S+/g) ?? [];
    assert.equal(new Set(versions).size, 2, `the daemon is another version’s: ${versions}`);
  } finally {
    await host.stop();
  }
}
