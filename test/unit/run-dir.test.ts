import assert from 'node:assert/strict';
import fs, {
  chmodSync,
  mkdirSync,
  readdirSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { isPm2EnvoyError } from '../../src/errors.js';
import { defaultRunDirs, findRunDir, prepareRunDir } from '../../src/host/run-dir.js';
import { makeTempFolder } from './fakes.js';

const modeOf = (path: string): number => statSync(path).mode & 0o777;

function assertUnusable(directory: string, reason: RegExp): void {
  assert.throws(
    () => prepareRunDir(directory),
    (error: unknown) =>
      isPm2EnvoyError(error, 'run-dir-unusable') &&
      error.message.includes(directory) &&
      reason.test(error.message),
  );
}

/** Sets XDG_RUNTIME_DIR, and makes /run/pm2-envoy a place that this user can't make. */
function withoutRun(t: TestContext, runtime: string): void {
  const before = process.env['XDG_RUNTIME_DIR'];
  process.env['XDG_RUNTIME_DIR'] = runtime;
  const make = fs.mkdirSync;
  const look = fs.lstatSync;
  const refuse = (path: unknown): void => {
    if (!String(path).startsWith('/run/pm2-envoy')) return;
    throw Object.assign(new Error('EACCES: permission denied'), { code: 'EACCES' });
  };
  t.mock.method(fs, 'mkdirSync', (...args: Parameters<typeof make>) => {
    refuse(args[0]);
    return make(...args);
  });
  t.mock.method(fs, 'lstatSync', (path: string) => {
    refuse(path);
    return look(path);
  });
  syncBuiltinESMExports();
  t.after(() => {
    t.mock.restoreAll();
    syncBuiltinESMExports();
    if (before === undefined) delete process.env['XDG_RUNTIME_DIR'];
    else process.env['XDG_RUNTIME_DIR'] = before;
  });
}

describe('prepareRunDir', () => {
  it('makes the folder, and those above it, for this user alone', () => {
    const directory = join(makeTempFolder(), 'a', 'b');
    assert.equal(prepareRunDir(directory), directory);
    assert.equal(modeOf(directory), 0o700);
  });

  it('leaves nothing behind in it', () => {
    const directory = prepareRunDir(makeTempFolder());
    assert.deepEqual(readdirSync(directory), []);
  });

  it('takes permissions away from others where the folder is there already', () => {
    const directory = makeTempFolder();
    chmodSync(directory, 0o777);
    prepareRunDir(directory);
    assert.equal(modeOf(directory), 0o700);
  });

  it('closes a folder that others may look into where it holds only ours', () => {
    const directory = makeTempFolder();
    mkdirSync(join(directory, 'generations'));
    const files = ['manager.json', 'counted.json', 'counted.json.12.3.draft', 'validate-7.log'];
    const ofForeign = ['shutdown-0123456789ab.json', 'shutdown-0123456789ab.decision'];
    for (const name of [...files, ...ofForeign, '.probe-1']) {
      writeFileSync(join(directory, name), '');
    }
    chmodSync(directory, 0o755);
    prepareRunDir(directory);
    assert.equal(modeOf(directory), 0o700);
  });

  it('refuses a folder that others may look into and that holds someone’s files', () => {
    for (const mode of [0o755, 0o750, 0o701]) {
      const directory = makeTempFolder();
      mkdirSync(join(directory, 'generations'));
      writeFileSync(join(directory, 'notes.txt'), '');
      chmodSync(directory, mode);
      assertUnusable(directory, /other users may read it.*notes\.txt/);
      assert.equal(modeOf(directory), mode);
    }
  });

  it('can be called again and keeps what is in it', () => {
    const directory = prepareRunDir(makeTempFolder());
    writeFileSync(join(directory, 'x'), '');
    prepareRunDir(directory);
    assert.deepEqual(readdirSync(directory), ['x']);
  });

  it('refuses a file', () => {
    const file = join(makeTempFolder(), 'file');
    writeFileSync(file, '');
    assertUnusable(file, /set run-dir/);
    assertUnusable(join(file, 'below'), /set run-dir/);
  });

  it('refuses a symlink, even to a folder of this user', () => {
    const folder = makeTempFolder();
    mkdirSync(join(folder, 'real'), { mode: 0o755 });
    symlinkSync(join(folder, 'real'), join(folder, 'link'));
    assertUnusable(join(folder, 'link'), /not a directory that belongs to this user/);
    assert.equal(modeOf(join(folder, 'real')), 0o755);
    symlinkSync('/nowhere', join(folder, 'dangling'));
    assertUnusable(join(folder, 'dangling'), /set run-dir/);
  });

  it('refuses a folder of another user', (t) => {
    const folder = makeTempFolder();
    chmodSync(folder, 0o755);
    t.mock.method(process as { getuid(): number }, 'getuid', () => 4_242);
    assertUnusable(folder, /not a directory that belongs to this user/);
    t.mock.restoreAll();
    assert.equal(modeOf(folder), 0o755);
  });

  it('refuses a path too long for the sockets in it, and makes nothing', () => {
    const folder = makeTempFolder();
    const directory = join(folder, 'x'.repeat(100));
    assertUnusable(directory, /too long for a unix socket/);
    assert.deepEqual(readdirSync(folder), []);
  });

  it('measures the path in bytes, as sockets do', () => {
    const folder = makeTempFolder();
    assertUnusable(join(folder, 'ü'.repeat(50)), /too long for a unix socket/);
    assert.deepEqual(readdirSync(folder), []);
  });

  it('takes every path that leaves room for a socket', () => {
    const folder = makeTempFolder();
    const room = 108 - 1 - '/generations/999999/admin.sock'.length - folder.length - 1;
    assert.doesNotThrow(() => prepareRunDir(join(folder, 'x'.repeat(room - 4))));
  });

  it('falls through to the next default place when one can’t be used', (t) => {
    const runtime = makeTempFolder();
    withoutRun(t, runtime);
    assert.equal(prepareRunDir(undefined), join(runtime, 'pm2-envoy'));
  });

  it('does not fall through when the configured one can’t be used', (t) => {
    const runtime = makeTempFolder();
    withoutRun(t, runtime);
    assertUnusable('/dev/null', /\/dev\/null/);
    assert.deepEqual(readdirSync(runtime), []);
  });
});

describe('defaultRunDirs', () => {
  it('are /run, the user’s runtime folder, and one of the user’s own in the temp folder', () => {
    const own = join(tmpdir(), `pm2-envoy-${process.getuid?.()}`);
    assert.deepEqual(defaultRunDirs({ XDG_RUNTIME_DIR: '/run/user/7' }), [
      '/run/pm2-envoy',
      '/run/user/7/pm2-envoy',
      own,
    ]);
    assert.deepEqual(defaultRunDirs({}), ['/run/pm2-envoy', own]);
    assert.deepEqual(defaultRunDirs({ XDG_RUNTIME_DIR: '' }), ['/run/pm2-envoy', own]);
    assert.deepEqual(defaultRunDirs({ XDG_RUNTIME_DIR: 'run' }), ['/run/pm2-envoy', own]);
  });
});

describe('findRunDir', () => {
  it('is the configured one, there or not, and makes nothing', () => {
    const directory = join(makeTempFolder(), 'later');
    assert.equal(findRunDir(directory), directory);
    assert.throws(() => statSync(directory), /ENOENT/);
  });

  it('finds the default place that has generations', (t) => {
    const runtime = makeTempFolder();
    withoutRun(t, runtime);
    const directory = prepareRunDir(undefined);
    mkdirSync(join(directory, 'generations'));
    assert.equal(findRunDir(undefined), directory);
  });
});
