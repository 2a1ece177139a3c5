import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { describe, it } from 'node:test';
import { findEnvoy, installedPath, isExecutable, pinnedVersions } from '../../src/envoy/binary.js';
import { isPm2EnvoyError } from '../../src/errors.js';
import { makeTempFolder } from './fakes.js';

/** A file that may be executed, in a folder of its own if none is named. */
function executable(path = join(makeTempFolder(), 'envoy')): string {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, '#!/bin/sh\n');
  chmodSync(path, 0o755);
  return path;
}

function assertNotFound(call: () => unknown, reason: RegExp): void {
  assert.throws(
    call,
    (error: unknown) => isPm2EnvoyError(error, 'envoy-not-found') && reason.test(error.message),
  );
}

/** An environment with an Envoy in each place. */
function everywhere() {
  const data = makeTempFolder();
  const installed = executable(installedPath(pinnedVersions().default, { XDG_DATA_HOME: data }));
  const onPath = executable();
  const named = executable();
  const env = { XDG_DATA_HOME: data, PATH: dirname(onPath), ENVOY_BIN: named };
  return { env, installed, onPath, named };
}

describe('findEnvoy', () => {
  it('looks at envoy-bin, ENVOY_BIN, PATH and the installed copy, in this order', () => {
    const { env, installed, onPath, named } = everywhere();
    const configured = executable(join(makeTempFolder(), 'my-envoy'));
    assert.deepEqual(findEnvoy(configured, env), { path: configured, source: 'envoy-bin' });
    assert.deepEqual(findEnvoy(undefined, env), { path: named, source: 'ENVOY_BIN' });
    const { ENVOY_BIN: _, ...unnamed } = env;
    assert.deepEqual(findEnvoy(undefined, unnamed), { path: onPath, source: 'PATH' });
    assert.deepEqual(findEnvoy(undefined, { ...unnamed, PATH: '/nowhere' }), {
      path: installed,
      source: 'pm2-envoy envoy install',
    });
  });

  it('does not look further when the one that is named is not there', () => {
    const { env } = everywhere();
    assertNotFound(
      () => findEnvoy('/nowhere/envoy', env),
      /^envoy-bin \/nowhere\/envoy: .*no such/,
    );
    assertNotFound(
      () => findEnvoy(undefined, { ...env, ENVOY_BIN: '/nowhere/envoy' }),
      /^ENVOY_BIN \/nowhere\/envoy: there is no such file/,
    );
  });

  it('refuses a named one that is a folder or can’t be executed', () => {
    const folder = makeTempFolder();
    const file = join(folder, 'envoy');
    writeFileSync(file, '', { mode: 0o644 });
    for (const path of [folder, file]) {
      assertNotFound(() => findEnvoy(path, {}), /not an executable file/);
    }
  });

  it('takes the first on PATH that can be executed', () => {
    const [plain, isFolder, good, later] = [
      makeTempFolder(),
      makeTempFolder(),
      executable(),
      executable(),
    ];
    writeFileSync(join(plain, 'envoy'), '', { mode: 0o644 });
    mkdirSync(join(isFolder, 'envoy'));
    const PATH = ['', '/nowhere', plain, isFolder, dirname(good), dirname(later)].join(delimiter);
    assert.equal(findEnvoy(undefined, { PATH }).path, good);
  });

  it('does not take an envoy in the working directory for one on PATH', (t) => {
    const before = process.cwd();
    t.after(() => process.chdir(before));
    process.chdir(dirname(executable()));
    const env = { XDG_DATA_HOME: makeTempFolder() };
    assertNotFound(() => findEnvoy(undefined, { ...env, PATH: '' }), /there is no Envoy/);
    assertNotFound(() => findEnvoy(undefined, { ...env, PATH: delimiter }), /there is no Envoy/);
  });

  it('takes an empty ENVOY_BIN as one that is not set', () => {
    const { env, onPath } = everywhere();
    assert.equal(findEnvoy(undefined, { ...env, ENVOY_BIN: '' }).path, onPath);
    assert.equal(findEnvoy('', { ...env, ENVOY_BIN: '' }).path, onPath);
  });

  it('says what to do when there is none', () => {
    const env = { XDG_DATA_HOME: makeTempFolder() };
    assertNotFound(() => findEnvoy(undefined, env), /pm2-envoy envoy install.*PATH.*envoy-bin/);
  });
});

describe('installedPath', () => {
  it('lies in the user’s data folder, by version', () => {
    assert.equal(
      installedPath('1.40.0', { XDG_DATA_HOME: '/data', HOME: '/home/a' }),
      '/data/pm2-envoy/envoy/1.40.0/envoy',
    );
    for (const env of [{ HOME: '/home/a' }, { HOME: '/home/a', XDG_DATA_HOME: '' }]) {
      assert.equal(
        installedPath('1.39.3', env),
        '/home/a/.local/share/pm2-envoy/envoy/1.39.3/envoy',
      );
    }
  });
});

describe('pinnedVersions', () => {
  it('has hashes for every version, the default among them', () => {
    const { default: standard, versions } = pinnedVersions();
    assert.ok(standard in versions);
    for (const [version, hashes] of Object.entries(versions)) {
      assert.match(version, /^\d+\.\d+\.\d+$/);
      assert.ok(hashes.length > 0);
      for (const hash of hashes) assert.match(hash, /^sha256:[0-9a-f]{64}$/);
    }
  });
});

describe('isExecutable', () => {
  it('holds for a file that may be executed only', () => {
    assert.equal(isExecutable(executable()), true);
    assert.equal(isExecutable(makeTempFolder()), false);
    assert.equal(isExecutable('/nowhere'), false);
    assert.equal(isExecutable(''), false);
  });
});
