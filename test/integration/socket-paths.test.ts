import assert from 'node:assert/strict';
import { linkSync, readdirSync } from 'node:fs';
import { get } from 'node:http';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { isAlive } from '../../src/host/process-identity.js';
import {
  fromFile,
  fromNobody,
  ldsAnswer,
  oldestAndNewest,
  type TestGenerations,
  webListener,
  withGenerations,
} from '../support/two-generations.js';

/** Between bind and the moment that the path is given back; on a machine with all cores busy. */
const FEW = 30;

describe('startGeneration, with unix sockets', { concurrency: 2 }, () => {
  for (const { version, binary } of oldestAndNewest()) {
    describe(`The unix socket of Envoy ${version}`, { concurrency: 3 }, () => {
      it('is answered throughout a redeploy with a slow start, and by the new one after it', () =>
        withGenerations(binary, async (stage) => {
          serve(stage, { cds_config: fromNobody('REST') });
          const first = await stage.start();
          // It has bound the path by then, and does not listen yet; nor has the old one received from there.
          serve(stage, { cds_config: fromNobody('REST') });
          const load = loadOf(path(stage));
          const second = await stage.start();
          process.kill(first.envoy.pid, 'SIGKILL');
          while (isAlive(first.envoy)) await pause(10);
          const { asked, failed } = await load.stop();
          assert.ok(asked > 5 && failed <= FEW, `${failed} of ${asked} failed`);
          assert.equal(await ask(path(stage)), 200);
          assert.equal(stage.generations.newest()?.number, second.number);
          assert.deepEqual(asides(stage), []);
        }));

      it('goes on with the old one when the new one fails, before and after it was LIVE', () =>
        withGenerations(binary, async (stage) => {
          const cds = { cds_config: fromFile(stage.write('cds.json', { resources: [] })) };
          serve(stage, cds);
          const first = await stage.start();
          const load = loadOf(path(stage));
          serve(stage, { cds_config: fromNobody('REST') });
          await assert.rejects(stage.start(), /clusters \(CDS\)/);
          // Its other listener can't be opened: Envoy ends at its start.
          stage.bootstrap([
            web(stage),
            webListener('b', 1, { address: { pipe: { path: '/proc/x' } } }),
          ]);
          await assert.rejects(stage.start(), /exited with code 1/);
          const { asked, failed } = await load.stop();
          assert.ok(asked > 5 && failed <= FEW, `${failed} of ${asked} failed`);
          assert.equal(await ask(path(stage)), 200);
          assert.deepEqual([stage.generations.newest()?.number, asides(stage)], [first.number, []]);
        }));

      it('is found again after a runner died in the middle, and goes from LDS to LDS', () =>
        withGenerations(binary, async (stage) => {
          const lds = { lds_config: fromFile(stage.write('lds.json', ldsAnswer([web(stage)]))) };
          stage.bootstrap([], lds);
          await stage.start();
          linkSync(path(stage), join(stage.folder, '.web.sock.pm2-envoy-1'));
          linkSync(path(stage), join(stage.folder, '.web.sock.pm2-envoy-7'));
          const second = await stage.start();
          assert.equal(await ask(path(stage)), 200);
          assert.deepEqual([second.number, asides(stage)], [2, []]);
        }));
    });
  }
});

function path({ folder }: TestGenerations): string {
  return join(folder, 'web.sock');
}

function web(stage: TestGenerations) {
  return webListener('web', 1, { address: { pipe: { path: path(stage), mode: 0o600 } } });
}

function serve(stage: TestGenerations, dynamic?: object): void {
  stage.bootstrap([web(stage)], dynamic);
}

function asides({ folder }: TestGenerations): string[] {
  return readdirSync(folder).filter((name) => name.includes('.pm2-envoy-'));
}

function ask(socketPath: string): Promise<number> {
  return new Promise((resolve, reject) => {
    get({ socketPath, path: '/', agent: false }, (response) => {
      response.resume();
      response.on('end', () => resolve(response.statusCode ?? 0));
      response.on('error', reject);
    }).on('error', reject);
  });
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Requests on connections of their own, one after the other. */
function loadOf(socketPath: string): { stop(): Promise<{ asked: number; failed: number }> } {
  let isOver = false;
  const count = { asked: 0, failed: 0 };
  const run = (async () => {
    while (!isOver) {
      count.asked += 1;
      const status = await ask(socketPath).catch(() => 0);
      if (status !== 200) count.failed += 1;
      await pause(1);
    }
    return count;
  })();
  return {
    stop: () => {
      isOver = true;
      return run;
    },
  };
}
