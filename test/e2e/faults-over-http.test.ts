import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { describe, it } from 'node:test';
import { CAUSES, childrenOf, drainOverHttp, settingsFor } from '../support/fault-cell.js';
import { PHASES, readMatrix } from '../support/faults-page.js';
import { prepareHost } from '../support/host.js';

const MATRIX = readMatrix();

describe('docs/faults.md', () => {
  it('has a row for each fault that is brought about, and no other', () => {
    assert.deepEqual([...MATRIX.keys()].sort(), Object.keys(CAUSES).sort());
  });
});

describe('a drain begun over HTTP', { concurrency: true }, () => {
  for (const [fault, row] of MATRIX) {
    describe(fault, () => {
      it('has one manager through all phases', async (t) => {
        const host = await prepareHost(settingsFor(Object.values(row)));
        try {
          const manager = await host.startManager();
          for (const phase of PHASES) {
            await t.test(`${phase}: ${row[phase].outcome}`, () =>
              drainOverHttp(host, { fault, phase, expected: row[phase] }),
            );
          }
          assert.equal((await host.http('GET', '/healthz')).status, 200);
          assert.deepEqual(childrenOf(manager.pid), [], 'the manager has left processes behind');
          const open = readdirSync(`/proc/${manager.pid}/fd`).length;
          assert.ok(open < 50, `the manager has ${open} files open`);
          manager.kill('SIGTERM');
          assert.equal(await manager.exited, 0, 'told to end after all that, it ends');
        } finally {
          await host.stop();
        }
      });
    });
  }
});
