import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { writeBootstrap } from '../support/bootstrap.js';
import { holdTcp } from '../support/clients.js';
import { statusOf, withPm2 } from '../support/pm2.js';
import { appShown } from '../support/pm2-shows.js';
import { letPass, patiently } from '../support/wait.js';

describe('a stats_matcher that hides all', () => {
  it('hides the open connections from no one: status, metrics, pm2, doctor and drain count the same', () =>
    withPm2(
      {},
      async (pm2) => {
        const hides = { stats_config: { stats_matcher: { reject_all: true } } };
        writeBootstrap(`${pm2.settings['envoy-config']}`, pm2.ports, pm2.backend, hides);
        await pm2.start();
        const held = [await holdTcp(pm2.ports.tcp), await holdTcp(pm2.ports.tcp)];
        const status = await patiently('both in /status', async () => {
          const found = await statusOf(pm2);
          return found.connections?.open === 2 && found;
        });
        assert.deepEqual(status.connections.byListener, { [`127.0.0.1_${pm2.ports.tcp}`]: 2 });
        assert.equal(status.oldestPeers.length, 2);
        const { body } = await pm2.http('GET', '/metrics');
        assert.match(body, /^pm2_envoy_open_connections 2$/m);
        const answer = pm2.http('POST', '/shutdown');
        await patiently('pm2’s figure', async () => {
          const { metrics } = await appShown(pm2, 'envoy-manager');
          return metrics['open connections'] === 2;
        });
        const doctor = await pm2.cli('doctor');
        assert.match(doctor.stdout, /shows no listener gauges .*: counting its sockets in \/proc/);
        held[0]?.close();
        assert.equal(await Promise.race([answer, letPass(1_000).then(() => 'waits')]), 'waits');
        held[1]?.close();
        const { outcome, connectionsAtStart } = JSON.parse((await answer).body);
        assert.deepEqual([outcome, connectionsAtStart], ['drained', 2]);
      },
      false,
    ));
});
