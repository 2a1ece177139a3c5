import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { migrateAcceptQueues, migratesAcceptQueues } from '../../src/host/accept-queue.js';
import { createFakeLog, makeTempFolder } from './fakes.js';

/** The kernel writes the setting with a newline. */
function settingWith(content: string): string {
  const file = join(makeTempFolder(), 'tcp_migrate_req');
  writeFileSync(file, content);
  return file;
}

const ABSENT = '/nowhere/tcp_migrate_req';

describe('migratesAcceptQueues', () => {
  for (const [content, migrates] of [
    ['1\n', true],
    ['1', true],
    ['0\n', false],
    ['', false],
    ['11\n', false],
  ] as const) {
    it(`is ${migrates} for ${JSON.stringify(content)}`, () => {
      assert.equal(migratesAcceptQueues(settingWith(content)), migrates);
    });
  }

  it('is undefined where the kernel has no such setting', () => {
    assert.equal(migratesAcceptQueues(ABSENT), undefined);
  });
});

describe('migrateAcceptQueues', () => {
  it('says nothing where it is 1 already', () => {
    const file = settingWith('1\n');
    const { log, entries } = createFakeLog();
    migrateAcceptQueues(log, file);
    assert.deepEqual(entries, []);
    assert.equal(readFileSync(file, 'utf8'), '1\n');
  });

  it('sets it, and says so', () => {
    const file = settingWith('0\n');
    const { log, of } = createFakeLog();
    migrateAcceptQueues(log, file);
    assert.equal(migratesAcceptQueues(file), true);
    assert.match(of('info').join(), /^net\.ipv4\.tcp_migrate_req is 1 now/);
    assert.deepEqual(of('warn'), []);
  });

  for (const [what, file, reason] of [
    // Readable, but no one may write it, root neither.
    ['is not permitted', '/proc/version', /EACCES|EIO|EPERM/],
    ['has no such setting', ABSENT, /this kernel does not have it, Linux 5\.14 has/],
  ] as const) {
    it(`warns once of what it costs where the kernel ${what}, and what to do`, () => {
      const { log, entries, of } = createFakeLog();
      migrateAcceptQueues(log, file);
      const [warning = ''] = of('warn');
      assert.equal(entries.length, 1);
      assert.match(warning, reason);
      assert.match(warning, /may reset about one new connection in ten thousand/);
      assert.match(warning, /sysctl -w net\.ipv4\.tcp_migrate_req=1/);
    });
  }
});
