import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { withEnvoy } from '../support/envoy.js';
import { describeTraffic, startTraffic, type TrafficKind } from '../support/traffic.js';
import { eventually, letPass } from '../support/wait.js';

describe('startTraffic', () => {
  it('loses nothing while Envoy just serves', (t) =>
    withEnvoy({}, async ({ ports }) => {
      const traffic = await startTraffic(ports);
      await traffic.hold();
      await letPass(3_000);
      const isEnough = async (): Promise<boolean> => {
        const { kinds } = await traffic.look();
        return kinds.new.requests >= 1_400 && kinds['keep-alive'].requests >= 600;
      };
      await eventually('enough of it', isEnough, 60_000);
      await traffic.echo();
      const report = await traffic.stop();
      t.diagnostic(describeTraffic(report));
      assert.deepEqual([report.lost, report.closedUnannounced], [0, 0], describeTraffic(report));
      for (const [kind, { requests }] of Object.entries(report.kinds)) {
        assert.equal(requests > 0, kind !== 'readyz', `${kind}: ${requests}`);
      }
    }));

  it('sees every kind of loss when Envoy is killed', () =>
    withEnvoy({}, async ({ ports, kill }) => {
      const traffic = await startTraffic(ports);
      await traffic.hold();
      kill('SIGKILL');
      await traffic.echo();
      await eventually('each kind to be lost', async () => {
        const { kinds } = await traffic.look();
        const kept = (Object.keys(kinds) as TrafficKind[]).filter((kind) => kinds[kind].lost === 0);
        return kept.join() === 'readyz' || assert.fail(kept.join());
      });
      const { failures } = await traffic.stop();
      assert.match(failures.map(({ error }) => error).join(), /ECONNREFUSED|ECONNRESET/);
    }));
});
