import assert from 'node:assert/strict';
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  type Generation,
  isAttended,
  isRunBy,
  newestOf,
  openGenerations,
} from '../../src/host/generations.js';
import { isAlive, ownIdentity } from '../../src/host/process-identity.js';
import { deadIdentity, makeTempFolder } from '../unit/fakes.js';
import { holds } from './check.js';
import { damaged } from './damage.js';

const runDir = makeTempFolder();
const me = ownIdentity();

const generation = fc
  .record({
    envoy: fc.constantFrom(me, deadIdentity),
    runner: fc.constantFrom(me, deadIdentity),
    ready: fc.boolean(),
    orphaned: fc.boolean(),
  })
  .map((more) => ({
    number: 1,
    directory: '/elsewhere',
    adminSocket: '/elsewhere/admin.sock',
    startedAt: '2026-01-01T00:00:00.000Z',
    supervisor: 'PM2_HOME none',
    ...more,
  }));

/** A folder's two files: sound, damaged or missing. */
const folder = fc.record({
  generation: fc.option(
    fc.oneof(
      generation.map((valid) => JSON.stringify(valid)),
      generation.chain(damaged),
    ),
    { nil: undefined },
  ),
  runner: fc.option(fc.oneof(fc.constant(JSON.stringify(me)), damaged(me)), { nil: undefined }),
});

describe('openGenerations over any files', () => {
  it('lists the generations whose Envoy lives, and never fails', () => {
    holds(
      fc.property(fc.array(folder, { maxLength: 4 }), (folders) => {
        const root = join(runDir, 'generations');
        rmSync(root, { recursive: true, force: true });
        for (const [index, { generation, runner }] of folders.entries()) {
          const directory = join(root, String(index + 1));
          mkdirSync(directory, { recursive: true });
          if (generation) writeFileSync(join(directory, 'generation.json'), generation);
          if (runner) writeFileSync(join(directory, 'runner.json'), runner);
        }
        const generations = openGenerations(runDir);
        const live = generations.live();
        for (const found of live) {
          assert.ok(isAlive(found.envoy));
          assert.equal(found.directory, join(root, String(found.number)));
          assert.equal(typeof found.adminSocket, 'string');
          isAttended(found);
          assert.equal(isRunBy(found, found.runner), true);
        }
        assert.deepEqual(generations.newest(), newestOf(live));
        for (const index of folders.keys()) {
          const directory = join(root, String(index + 1));
          isRunBy({ ...(live[0] ?? someGeneration), directory }, me);
        }
        generations.prune();
        assert.deepEqual(generations.live(), live);
        const slot = generations.reserve();
        assert.ok(slot.number > folders.length);
        assert.ok(existsSync(slot.directory));
      }),
      100,
    );
  });
});

const someGeneration: Generation = {
  number: 1,
  directory: '',
  adminSocket: '',
  envoy: me,
  runner: me,
  supervisor: undefined,
  version: undefined,
  launch: undefined,
  startedAt: '',
  ready: true,
  orphaned: false,
};
