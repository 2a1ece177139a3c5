import assert from 'node:assert/strict';
import { chmodSync, existsSync, linkSync, lstatSync, readdirSync, rmSync } from 'node:fs';
import { get } from 'node:http';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { isAlive } from '../../src/host/process-identity.js';
import { keepSocketPaths } from '../../src/host/socket-paths.js';
import { makeFolder } from '../support/folder.js';
import {
  fromFile,
  fromNobody,
  ldsAnswer,
  oldestAndNewest,
  type TestGenerations,
  webListener,
  withGenerations,
} from '../support/two-generations.js';
import { eventually } from '../support/wait.js';
import { createFakeLog } from '../unit/fakes.js';

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

      it('has the mode of the bootstrap after each redeploy', () =>
        withGenerations(binary, async (stage) => {
          const modes = [0o660, 0o600, 0o666];
          for (const mode of modes) {
            stage.bootstrap([web(stage, mode)]);
            await stage.start();
            assert.equal(modeOf(path(stage)).toString(8), mode.toString(8));
          }
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

describe('keepSocketPaths', () => {
  for (const end of ['handOver', 'giveBack'] as const) {
    it(`leaves the old socket its mode where the new Envoy sets one late, and then ${end}`, async () => {
      const { path: folder, remove } = makeFolder();
      const path = join(folder, 'web.sock');
      const servers: Server[] = [];
      /** As an Envoy does: with a name that it had before, which is unlinked. */
      const bind = async (): Promise<number> => {
        rmSync(path, { force: true });
        servers.push(createServer().listen(path));
        await eventually('it is bound', () => existsSync(path));
        return lstatSync(path).ino;
      };
      try {
        const old = await bind();
        chmodSync(path, 0o600);
        const kept = keepSocketPaths([path], { before: 1, now: 2 }, createFakeLog().log);
        const fresh = await bind();
        await eventually('the old one is back', () => inodeAt(path) === old);
        chmodSync(path, 0o666);
        await eventually('the old one has its mode', () => modeOf(path) === 0o600);
        if (end === 'handOver') kept.handOver(new Map([[path, 0o666]]));
        else kept.giveBack();
        const expected = end === 'handOver' ? [fresh, 0o666] : [old, 0o600];
        assert.deepEqual([inodeAt(path), modeOf(path)], expected);
      } finally {
        for (const server of servers) server.close();
        remove();
      }
    });
  }
});

function inodeAt(path: string): number | undefined {
  return lstatSync(path, { throwIfNoEntry: false })?.ino;
}

function path({ folder }: TestGenerations): string {
  return join(folder, 'web.sock');
}

function web(stage: TestGenerations, mode = 0o600) {
  return webListener('web', 1, { address: { pipe: { path: path(stage), mode } } });
}

function modeOf(path: string): number {
  return lstatSync(path).mode & 0o7777;
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
