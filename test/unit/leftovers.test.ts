import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, it } from 'node:test';
import { makeFolder } from '../support/folder.js';

const SCRIPT = '../../scripts/leftovers.js';

describe('endLeftovers', () => {
  it('ends what was started with the folder of a run, its children too, and nothing else', async () => {
    const { endLeftovers } = (await import(SCRIPT)) as {
      endLeftovers(folder: string): string[];
    };
    const folder = makeFolder();
    const start = (TMPDIR: string) =>
      spawn('sh', ['-c', 'sleep 60 & sleep 60'], { env: { ...process.env, TMPDIR } });
    const left = start(folder.path);
    const other = start(`${folder.path}-other`);
    try {
      await Promise.all([once(left, 'spawn'), once(other, 'spawn')]);
      const [ended] = await Promise.all([once(left, 'exit'), endLeftovers(folder.path)]);
      assert.equal(ended[1], 'SIGKILL');
      assert.equal(other.exitCode ?? other.signalCode, null);
      assert.deepEqual(endLeftovers(folder.path), []);
    } finally {
      endLeftovers(`${folder.path}-other`);
      folder.remove();
    }
  });
});
