import assert from 'node:assert/strict';
import { mkdirSync, renameSync, rmSync } from 'node:fs';
import { resolve } from 'node:path';
import { describe, it } from 'node:test';
import { isAlive } from '../../src/host/process-identity.js';
import { request } from '../support/clients.js';
import { withPm2 } from '../support/pm2.js';
import { patiently } from '../support/wait.js';

const ECOSYSTEM = resolve(import.meta.dirname, '../../ecosystem.config.js');

describe('pm2’s daemon killed by SIGKILL', () => {
  it('while nothing can be written and Envoy logs each request: the runner goes on, and is relieved later', () =>
    withPm2({}, async (pm2) => {
      const [one] = pm2.generations();
      assert.ok(one);
      const file = `${one.directory}/generation.json`;
      // What is renamed over a folder fails, for root too.
      renameSync(file, `${file}.kept`);
      mkdirSync(`${file}/in-the-way`, { recursive: true });
      const load = underLoad(pm2.ports.http);
      await patiently('some requests', () => load.done() > 300);
      await pm2.killDaemon();
      const before = load.done();
      await patiently('pm2 to be missed', () => /pm2 is gone/.test(pm2.log('envoy')));
      await patiently('its warning', () => /that can't be recorded/.test(pm2.log('envoy')));
      await patiently('more requests', () => load.done() > before + 1_000);
      assert.equal(isAlive(one.runner), true, pm2.log('envoy'));
      rmSync(file, { recursive: true });
      renameSync(`${file}.kept`, file);
      await pm2.pm2('start', ECOSYSTEM);
      await patiently(
        'generation 2 alone',
        () =>
          pm2
            .generations()
            .map(({ number }) => number)
            .join() === '2',
      );
      assert.deepEqual(await load.stop(), []);
      await patiently('its runner to end', () => !isAlive(one.runner));
      assert.doesNotMatch(pm2.log('envoy'), /EPIPE|despite an error/);
    }));
});

/** Requests one after the other in four lines; each that fails is kept. */
function underLoad(port: number) {
  let done = 0;
  let isOver = false;
  const failed: string[] = [];
  const line = async (): Promise<void> => {
    while (!isOver) {
      try {
        const { status } = await request(port);
        if (status !== 200) failed.push(String(status));
      } catch (error) {
        failed.push(String(error));
      }
      done += 1;
    }
  };
  const lines = Promise.all([line(), line(), line(), line()]);
  return {
    done: () => done,
    stop: async () => {
      isOver = true;
      await lines;
      return failed;
    },
  };
}
