import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { FEATURE_ENVOYS, withStage, writeScript } from '../support/generation.js';
import { pidsWith } from '../support/pm2.js';
import { eventually } from '../support/wait.js';

/** One run in some ten on a busy machine did not come to an end: many in a row are to show why. */
const TIMES = 20;

describe('an envoy-bin that is a script which starts Envoy again and again', () => {
  for (const name of FEATURE_ENVOYS) {
    it(`ends with the first Envoy, ${TIMES} times (${name})`, { timeout: 300_000 }, async () => {
      for (let time = 0; time < TIMES; time += 1) await endsWithTheFirst(name);
    });
  }
});

function endsWithTheFirst(name: (typeof FEATURE_ENVOYS)[number]): Promise<void> {
  return withStage(
    name,
    () => ({}),
    async (stage) => {
      const isCheck = `case "$*" in *--mode*|*--version*) exec '${stage.binary}' "$@";; esac`;
      const loop = `while :; do '${stage.binary}' "$@"; sleep 0.1; done`;
      const binary = writeScript(join(stage.folder, 'loop'), isCheck, loop);
      const { generation, envoy } = await stage.start({ binary });
      process.kill(envoy.identity.pid, 'SIGKILL');
      assert.equal((await envoy.exited).serves, undefined);
      await eventually('nothing to be left', () => pidsWith(generation.adminSocket).length === 0);
    },
  );
}
