import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import {
  createTokenSource,
  openness,
  readTokenFile,
  type TokenSource,
} from '../../src/config/token.js';
import { createFakeLog, type FakeLog, makeTempFolder } from './fakes.js';

const folder = makeTempFolder();
let count = 0;

function nextPath(): string {
  count += 1;
  return join(folder, `token-${count}`);
}

function tokenFile(text: string, mode = 0o600): string {
  const path = nextPath();
  writeFileSync(path, text);
  chmodSync(path, mode);
  return path;
}

/** The source of a process that was started with the token `old`. */
function sourceOf(shutdownTokenFile: string | undefined): { read: TokenSource; of: FakeLog['of'] } {
  const { log, of } = createFakeLog();
  return { read: createTokenSource({ shutdownToken: 'old', shutdownTokenFile }, log), of };
}

describe('openness', () => {
  const [root, user] = [0, 1_000];
  for (const [uid, mode] of [
    [user, 0o600],
    [user, 0o400],
    [user, 0o700],
    [root, 0o600],
    [root, 0o440],
    [root, 0o640],
  ] as const) {
    it(`takes mode ${mode.toString(8)} of user ${uid}`, () => {
      assert.equal(openness({ mode, uid }), undefined);
    });
  }

  for (const [uid, mode] of [
    [user, 0o644],
    [user, 0o640],
    [user, 0o610],
    [user, 0o604],
    [user, 0o602],
    [user, 0o601],
    [root, 0o644],
    [root, 0o444],
    [root, 0o660],
    [root, 0o650],
    [root, 0o777],
  ] as const) {
    it(`refuses mode ${mode.toString(8)} of user ${uid}`, () => {
      const chmod = uid === root ? 640 : 600;
      const expected = new RegExp(`mode 0${mode.toString(8)}\\): chmod ${chmod} it; .*fsGroup`);
      assert.match(openness({ mode: 0o100_000 | mode, uid }) ?? '', expected);
    });
  }
});

describe('readTokenFile', () => {
  it('takes the text without the space around it', () => {
    assert.equal(readTokenFile(tokenFile(' hunter2 and 3\r\n')), 'hunter2 and 3');
  });

  it('refuses a file that others can read, or that is no file', () => {
    assert.throws(() => readTokenFile(tokenFile('hunter2', 0o644)), /^Error: is open to others/);
    for (const path of [folder, '/dev/null', join(folder, 'nowhere')]) {
      assert.throws(() => readTokenFile(path), /^Error: can't be read: /);
    }
  });

  it('refuses a file without a token, or with much more than one', () => {
    assert.throws(() => readTokenFile(tokenFile('\n')), /the file is empty/);
    assert.throws(() => readTokenFile(tokenFile('x'.repeat(4_097))), /at most 4096 characters/);
    assert.throws(() => readTokenFile(tokenFile('x'.repeat(100_000))), /too long for a token/);
    assert.equal(readTokenFile(tokenFile('x'.repeat(4_096))).length, 4_096);
  });
});

describe('createTokenSource', () => {
  it('is the token itself where no file is set', () => {
    assert.equal(sourceOf(undefined).read(), 'old');
  });

  it('gives a new token immediately, and says so once', () => {
    const path = tokenFile('old');
    const { read, of } = sourceOf(path);
    assert.equal(read(), 'old');
    assert.deepEqual(of('info'), []);
    writeFileSync(path, 'new');
    assert.deepEqual([read(), read()], ['new', 'new']);
    assert.deepEqual(of('info'), [
      `shutdown-token-file ${path} has changed: the new token is valid`,
    ]);
  });

  it('follows the link that Kubernetes swaps when it rotates a secret', () => {
    const volume = nextPath();
    const rotate = (name: string, token: string): void => {
      mkdirSync(join(volume, name), { recursive: true });
      writeFileSync(join(volume, name, 'token'), token, { mode: 0o400 });
      symlinkSync(name, join(volume, '..data_tmp'));
      renameSync(join(volume, '..data_tmp'), join(volume, '..data'));
    };
    rotate('..2026_01', 'old');
    symlinkSync('..data/token', join(volume, 'token'));
    const { read, of } = sourceOf(join(volume, 'token'));
    assert.equal(read(), 'old');
    rotate('..2026_02', 'new');
    rmSync(join(volume, '..2026_01'), { recursive: true });
    assert.equal(read(), 'new');
    assert.deepEqual(of('error'), []);
  });

  const spoilt: Readonly<Record<string, (path: string) => void>> = {
    'is gone': (path) => rmSync(path),
    'is empty': (path) => writeFileSync(path, ''),
    'is open to others': (path) => chmodSync(path, 0o644),
    'is a pipe, which would block': (path) => {
      rmSync(path);
      execFileSync('mkfifo', [path]);
    },
  };
  for (const [what, spoil] of Object.entries(spoilt)) {
    it(`gives no token while the file ${what}, and says so once`, () => {
      const path = tokenFile('old');
      const { read, of } = sourceOf(path);
      spoil(path);
      assert.deepEqual([read(), read()], [undefined, undefined]);
      assert.equal(of('error').length, 1);
      assert.match(of('error')[0] ?? '', /^no shutdown token is accepted: shutdown-token-file /);
      rmSync(path, { force: true });
      writeFileSync(path, 'old', { mode: 0o600 });
      assert.equal(read(), 'old');
      assert.match(of('info')[0] ?? '', /the new token is valid/);
    });
  }

  it('keeps what a pipe held, which can be read only once', () => {
    const path = nextPath();
    execFileSync('mkfifo', [path]);
    assert.equal(sourceOf(path).read(), 'old');
  });

  it('never logs a token', () => {
    const path = tokenFile('old');
    const { log, entries } = createFakeLog();
    const read = createTokenSource({ shutdownToken: 'old', shutdownTokenFile: path }, log);
    for (const text of ['hunter2', 'hünter2', '']) {
      writeFileSync(path, text);
      read();
    }
    assert.equal(entries.length, 3);
    assert.doesNotMatch(JSON.stringify(entries), /h.nter2/);
  });
});
