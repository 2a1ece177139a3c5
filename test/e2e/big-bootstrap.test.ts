import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { withHost } from '../support/host.js';
import { eventually } from '../support/wait.js';

const CLUSTERS = 10_000;
/** JavaScript is interpreted only in a runner under pm2 (pm2/apps.ts). */
const AS_PM2_DOES = ['sh', '-c', 'node=$1; shift; exec "$node" --no-opt --no-sparkplug "$@"', 'sh'];
/** To parse it in the runner took 13 s at least. */
const SOON_MS = 10_000;
/** It is checked, read and started, each a few seconds of a whole CPU. */
const LIVE_MS = 240_000;

describe('a bootstrap of 10,000 clusters', () => {
  it('does not keep the runner from a signal once Envoy is LIVE', () =>
    withHost({}, async (host) => {
      const bootstrap = join(host.folder, 'big.yaml');
      writeFileSync(bootstrap, bigBootstrap());
      const env = { PM2_ENVOY_ENVOY_CONFIG: bootstrap };
      const runner = await host.startApp('runner', { env, wrapper: AS_PM2_DOES });
      const isLive = (): boolean => /is LIVE: generation 1/.test(runner.output());
      await eventually('Envoy to be LIVE', () => !runner.isRunning() || isLive(), LIVE_MS);
      assert.ok(isLive(), runner.output());
      runner.kill('SIGTERM');
      const hears = (): boolean => /SIGTERM: stopping/.test(runner.output());
      await eventually('the runner to hear of the signal', hears, SOON_MS);
      assert.equal(await runner.exited, 0, runner.output());
      assert.match(runner.output(), /shutdown ended: drained[\s\S]*generation 1 has ended/);
    }));
});

/** 2.9 MB of YAML, as a generator writes it. */
function bigBootstrap(): string {
  const clusters = Array.from(
    { length: CLUSTERS },
    (_, index) => `  - name: service-${String(index).padStart(5, '0')}.namespace-of-some-team.svc
    type: STATIC
    connect_timeout: 5s
    load_assignment:
      cluster_name: service-${index}
      endpoints:
      - lb_endpoints:
        - endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: ${1_024 + index} } } }
`,
  );
  return `admin:
  address: { socket_address: { address: 127.0.0.1, port_value: 0 } }
static_resources:
  clusters:
${clusters.join('')}`;
}
