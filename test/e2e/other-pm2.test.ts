import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { preparePm2, withPm2 } from '../support/pm2.js';
import { eventually } from '../support/wait.js';

describe('an Envoy of another pm2 in the same run directory', () => {
  it('is called that by doctor, redeploy and shutdown, with what to set', () =>
    withPm2({}, async (first) => {
      const runDir = String(first.settings['run-dir']);
      const second = await preparePm2({ 'run-dir': runDir });
      const belongs = new RegExp(
        `the Envoy in the run directory ${runDir} belongs to another pm2 \\(PM2_HOME ${first.env['PM2_HOME']}, .*; the pm2 of this shell is ${second.env['PM2_HOME']}`,
      );
      try {
        const before = await second.cli('doctor');
        assert.equal(before.code, 1);
        assert.match(before.stdout, new RegExp(`PROBLEM pm2 +${belongs.source}`));
        assert.match(before.stdout, /-> give the Envoy of this pm2 a run-dir of its own/);

        // Its runner refuses the run directory, and the first one goes on.
        await second.pm2('start', second.ecosystem).catch(() => undefined);
        await eventually('the refusal', () => second.log('envoy').includes('run directory'));
        assert.match((await second.cli('doctor')).stdout, belongs);
        assert.match((await second.cli('redeploy', '--dry-run')).stderr, belongs);

        const { stdout } = await first.cli('doctor');
        assert.match(stdout, /^0 problems/m);
        // A shell that names no pm2, and has none.
        Object.assign(second.env, { HOME: second.folder });
        delete second.env['PM2_HOME'];
        assert.doesNotMatch((await second.cli('doctor')).stdout, /another pm2/);
        second.env['PM2_HOME'] = `${second.folder}/pm2`;
        assert.match((await second.cli('shutdown')).stderr, belongs);
      } finally {
        await second.stop();
      }
    }));
});
