import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { after, describe, it } from 'node:test';
import { makeFolder } from '../support/folder.js';

const ROOT = resolve(import.meta.dirname, '../..');
const folder = makeFolder();

/**
 * The exit code of a program that reads our ecosystem file and ends with `code`, as pm2-runtime does: which of its two
 * ends comes first is chance there.
 */
async function exitCodeOf(name: string, code: number, signal?: NodeJS.Signals): Promise<number> {
  const script = join(folder.path, name);
  writeFileSync(
    script,
    `import(${JSON.stringify(join(ROOT, 'ecosystem.config.js'))}).then(() => {
      const end = () => process.exit(${code});
      for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => setTimeout(end, 50));
      console.log('ready');
      setTimeout(end, ${signal ? 60_000 : 50});
    });`,
  );
  const child = spawn(process.execPath, [script], { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = once(child, 'exit');
  await once(child.stdout, 'data');
  if (signal) child.kill(signal);
  return (await ended)[0];
}

describe('the ecosystem file under pm2-runtime', () => {
  after(folder.remove);

  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    it(`has a stop by ${signal} end with 0, where nothing was online any more`, async () => {
      assert.equal(await exitCodeOf('pm2-runtime', 2, signal), 0);
    });
  }

  it('leaves every other exit code as it is', async () => {
    assert.equal(await exitCodeOf('pm2-runtime', 2), 2);
    assert.equal(await exitCodeOf('pm2-runtime', 1, 'SIGTERM'), 1);
    assert.equal(await exitCodeOf('other-program', 2, 'SIGTERM'), 2);
  });
});
