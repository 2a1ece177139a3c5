import assert from 'node:assert/strict';
import { chmodSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { isEnvoy } from '../../src/envoy/bootstrap.js';
import { validateBootstrap } from '../../src/envoy/validate.js';
import { isPm2EnvoyError } from '../../src/errors.js';
import { identify } from '../../src/host/process-identity.js';
import { writeBootstrap } from '../support/bootstrap.js';
import { envoyBinary } from '../support/envoy.js';
import { makeFolder } from '../support/folder.js';
import { freePorts } from '../support/ports.js';
import { eventually } from '../support/wait.js';

describe('validateBootstrap', () => {
  it('takes a bootstrap with an access log on /dev/stdout, and leaves no file behind', () =>
    withFolder(async (folder) => {
      const [http = 0, tcp = 0] = await freePorts(2);
      const bootstrap = join(folder, 'envoy.yaml');
      writeBootstrap(bootstrap, { http, tcp }, { httpPort: 1, tcpPort: 2 });
      const check = await validateBootstrap(envoyBinary(), { bootstrap, args: [] }, folder);
      assert.deepEqual(check, { kind: 'valid' });
      assert.equal(existsSync(join(folder, `validate-${process.pid}.log`)), false);
    }));

  it('refuses an argument that Envoy does not know', () =>
    withFolder(async (folder) => {
      const bootstrap = join(folder, 'envoy.yaml');
      writeFileSync(bootstrap, '{}');
      await assert.rejects(
        validateBootstrap(envoyBinary(), { bootstrap, args: ['--nonsense'] }, folder),
        (error) =>
          isPm2EnvoyError(error, 'bootstrap-invalid') && error.message.includes('nonsense'),
      );
    }));

  it('does not take a check that is too slow for a refusal', () =>
    withFolder(async (folder) => {
      const bootstrap = join(folder, 'envoy.yaml');
      writeFileSync(bootstrap, '{}');
      const launch = { bootstrap, args: [] };
      assert.deepEqual(await validateBootstrap(envoyBinary(), launch, folder, { limitMs: 1 }), {
        kind: 'unchecked',
        reason: 'Envoy could not check the bootstrap: it did not end within 0.001 s',
      });
    }));

  for (const [how, limitMs] of [
    ['that is too slow', 5_000],
    ['that is stopped', 60_000],
  ] as const) {
    it(`leaves nothing behind of a check ${how}, though envoy-bin is a script`, () =>
      withFolder(async (folder) => {
        const bootstrap = join(folder, 'envoy.yaml');
        writeFileSync(bootstrap, '{}');
        const started = join(folder, 'started');
        const binary = wrapper(
          folder,
          `sleep 600 & echo $! >'${started}.new'
mv '${started}.new' '${started}'
wait`,
        );
        const stop = new AbortController();
        const launch = { bootstrap, args: [] };
        const check = validateBootstrap(binary, launch, folder, { limitMs, stop: stop.signal });
        await eventually('the script to run', () => existsSync(started));
        if (limitMs > 5_000) stop.abort();
        assert.equal((await check).kind, 'unchecked');
        const pid = Number(readFileSync(started, 'utf8'));
        await eventually('its process to be gone', () => identify(pid) === undefined);
      }));
  }

  for (const [how, script, by] of [
    ['a signal', 'kill -9 $$', 'SIGKILL'],
    ['a signal, as its shell tells it', 'exit 137', 'signal 9'],
    ['a crash', 'kill -SEGV $$', 'SIGSEGV'],
  ] as const) {
    it(`does not take the end of a check for a refusal: by ${how}`, () =>
      withFolder(async (folder) => {
        const bootstrap = join(folder, 'envoy.yaml');
        writeFileSync(bootstrap, '{}');
        const binary = wrapper(folder, script);
        assert.deepEqual(await validateBootstrap(binary, { bootstrap, args: [] }, folder), {
          kind: 'unchecked',
          reason: `Envoy could not check the bootstrap: it was ended by ${by}`,
        });
      }));
  }
});

describe('isEnvoy', () => {
  it('does not know something else from an Envoy that was ended before it could say', () =>
    withFolder(async (folder) => {
      const binary = join(folder, 'envoy');
      writeFileSync(binary, '#!/bin/sh\nkill -9 $$\n');
      chmodSync(binary, 0o755);
      assert.equal(await isEnvoy(binary), true);
      writeFileSync(binary, '#!/bin/sh\nexit 1\n');
      assert.equal(await isEnvoy(binary), false);
    }));
});

/** An Envoy that says its version, and does something else instead of everything else. */
function wrapper(folder: string, script: string): string {
  const path = join(folder, 'wrapped-envoy');
  writeFileSync(
    path,
    `#!/bin/sh\ncase "$*" in *--version*) exec '${envoyBinary()}' "$@" ;; esac\n${script}\n`,
  );
  chmodSync(path, 0o755);
  return path;
}

async function withFolder(use: (folder: string) => Promise<void>): Promise<void> {
  const { path, remove } = makeFolder();
  try {
    await use(path);
  } finally {
    remove();
  }
}
