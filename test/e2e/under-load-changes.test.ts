import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { writeBootstrap } from '../support/bootstrap.js';
import { request } from '../support/clients.js';
import { envoyBinary } from '../support/envoy.js';
import { statusOf } from '../support/pm2.js';
import { freePorts } from '../support/ports.js';
import { describeTimes, QUICK, underLoad } from '../support/under-load.js';

describe('under load, with a TCP connection and a WebSocket held, nothing is lost', () => {
  it('by an upgrade of Envoy, and back', async (t) => {
    const older = envoyBinary('OLDER_ENVOY_BIN');
    await underLoad(t, { settings: QUICK, env: { ENVOY_BIN: older } }, async ({ pm2, replace }) => {
      const timesMs: number[] = [];
      const before = (await statusOf(pm2)).envoy.version;
      for (const binary of [envoyBinary(), older]) {
        pm2.env['ENVOY_BIN'] = binary;
        timesMs.push(await replace(() => pm2.pm2('reload', 'envoy', '--update-env')));
        const changed = (await statusOf(pm2)).envoy.version !== before;
        assert.equal(changed, binary !== older, 'the version has changed');
      }
      return describeTimes(timesMs);
    });
  });

  it('by a move to another port: first both, then only the new one', async (t) => {
    await underLoad(t, { settings: QUICK }, async ({ pm2, traffic, replace }) => {
      const bootstrap = join(pm2.folder, 'envoy.yaml');
      const [to = 0] = await freePorts(1);
      const from = pm2.ports.http;
      const reload = () => pm2.pm2('reload', 'envoy');
      writeBootstrap(bootstrap, { ...pm2.ports, alsoHttp: to }, pm2.backend);
      const timesMs = [await replace(reload)];
      await traffic.moveTo({ ...pm2.ports, http: to });
      writeBootstrap(bootstrap, { ...pm2.ports, http: to }, pm2.backend);
      timesMs.push(await replace(reload));
      assert.equal((await request(to)).status, 200);
      await assert.rejects(request(from), { code: 'ECONNREFUSED' });
      return describeTimes(timesMs);
    });
  });

  it('by a changed route', async (t) => {
    const traffic = { bodies: ['hello', 'hello again'] };
    await underLoad(t, { settings: QUICK, traffic }, async ({ pm2, replace }) => {
      assert.equal((await request(pm2.ports.http)).body, 'hello');
      const timeMs = await replace(async () => {
        changeRoute(join(pm2.folder, 'envoy.yaml'));
        await pm2.pm2('reload', 'envoy');
      });
      assert.equal((await request(pm2.ports.http)).body, 'hello again');
      return describeTimes([timeMs]);
    });
  });
});

/** `/` is answered by another path of the backend then. */
function changeRoute(bootstrap: string): void {
  const route = { cluster: 'http', timeout: '0s', prefix_rewrite: '/again' };
  const changed = readFileSync(bootstrap, 'utf8').replace(
    '"routes": [',
    `"routes": [${JSON.stringify({ match: { path: '/' }, route })},`,
  );
  writeFileSync(bootstrap, changed);
}
