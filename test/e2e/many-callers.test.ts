import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ask } from '../support/ask.js';
import { holdTcp } from '../support/clients.js';
import { type Dialled, dial } from '../support/dial.js';
import { withEnvoy } from '../support/envoy.js';
import { withManager } from '../support/manager.js';
import { freePorts } from '../support/ports.js';
import { eventually } from '../support/wait.js';

const CALLERS = 1_500;

describe('many callers', () => {
  it('of /shutdown all get its answer, and /healthz answers meanwhile', () =>
    withEnvoy({}, async ({ folder, adminUrl, ports }) => {
      const [port = 0] = await freePorts(1);
      const settings = { 'admin-address': adminUrl, 'drain-timeout': '60s' };
      await withManager({ folder, port, settings }, async () => {
        const held = await holdTcp(ports.tcp);
        let answered = 0;
        const callers = Array.from({ length: CALLERS }, async () => {
          const answer = await ask({ port, path: '/shutdown', method: 'POST', limitMs: 90_000 });
          answered += 1;
          return answer;
        });
        await eventually('/healthz to answer', async () => {
          const { status, body } = await ask({ port, path: '/healthz' });
          return status === 200 && body === 'ok\n';
        });
        assert.equal(answered, 0, 'all still wait');
        held.close();
        const answers = await Promise.all(callers);
        assert.deepEqual(new Set(answers.map(({ status }) => status)), new Set([200]));
        assert.equal(new Set(answers.map(({ body }) => body)).size, 1, 'all get the same answer');
      });
    }));

  it('that say nothing don’t keep a probe out, even where few files may be open', () =>
    withEnvoy({}, async ({ folder, adminUrl }) => {
      const [port = 0] = await freePorts(1);
      const silent: Dialled[] = [];
      // As an old login shell limits it; then the bound is lower than usual.
      const within = ['sh', '-c', 'ulimit -n 400 && exec "$@"', 'sh'];
      const settings = { 'admin-address': adminUrl };
      await withManager({ folder, port, settings, within }, async (manager) => {
        try {
          for (let count = 0; count < 600; count += 1) silent.push(await dial(port));
          for (const path of ['/healthz', '/readyz', '/status']) {
            assert.equal((await ask({ port, path })).status, 200, path);
          }
          assert.match(manager.log(), /more than 200 open sockets/);
        } finally {
          for (const { socket } of silent) socket.destroy();
        }
      });
    }));
});
