import assert from 'node:assert/strict';
import { existsSync, readFileSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { startBackendProcess } from '../support/backend.js';
import { prepareReplaced } from '../support/earlier-version.js';
import { copyPackage } from '../support/package-copy.js';
import { preparePm2, type TestPm2 } from '../support/pm2.js';
import { describeTraffic, startTraffic } from '../support/traffic.js';
import { eventually } from '../support/wait.js';

/** What changes under load, and the steps from one version to another. */
interface Upgrade {
  ecosystem: string;
  steps: readonly (readonly [what: string, act: () => Promise<unknown>])[];
}

describe('an upgrade of pm2-envoy under load loses nothing', () => {
  it('in place, from the earlier version and back', (t) =>
    underLoad(t, (pm2) => {
      const replaced = prepareReplaced(pm2.folder);
      replaced.become('earlier');
      const change = (version: 'earlier' | 'this') => {
        replaced.become(version);
        return pm2.pm2('reload', replaced.ecosystem);
      };
      return {
        ecosystem: replaced.ecosystem,
        steps: [
          ['to this version', () => change('this')],
          ['back', () => change('earlier')],
          ['to this version once more', () => change('this')],
        ],
      };
    }));

  it('by a new release behind a link, and back', (t) =>
    underLoad(t, (pm2) => {
      const current = join(pm2.folder, 'current');
      const releases = ['1', '2'].map((name) => makeRelease(join(pm2.folder, name)));
      const ecosystem = join(pm2.folder, 'ecosystem.config.mjs');
      writeFileSync(
        ecosystem,
        `import { envoyApps } from '${current}/node_modules/pm2-envoy/dist/index.js';
export const apps = envoyApps({ cwd: '${current}' });\n`,
      );
      symlinkSync('1', current);
      const point = async (name: string) => {
        unlinkSync(current);
        symlinkSync(name, current);
        await pm2.pm2('reload', ecosystem);
        const { runner } = pm2.generations().at(-1) ?? assert.fail('no generation');
        const by = releases.map((release) => existsSync(join(release, `runner-${runner.pid}`)));
        assert.deepEqual(by, [name === '1', name === '2'], `the runner is of release ${name}`);
      };
      return {
        ecosystem,
        steps: [
          ['to the second release', () => point('2')],
          ['back', () => point('1')],
        ],
      };
    }));
});

/** A release's folder with a package whose runner leaves a file there. */
function makeRelease(folder: string): string {
  const { path } = copyPackage(join(folder, 'node_modules/pm2-envoy'));
  const script = join(path, 'dist/apps/runner.js');
  const mark = `import { writeFileSync as mark } from 'node:fs';
mark(${JSON.stringify(join(folder, 'runner-'))} + process.pid, '');\n`;
  writeFileSync(script, mark + readFileSync(script, 'utf8'));
  return folder;
}

async function underLoad(t: TestContext, prepare: (pm2: TestPm2) => Upgrade): Promise<void> {
  const pm2 = await preparePm2({ 'envoy-drain-time': '10s' }, startBackendProcess);
  try {
    const { ecosystem, steps } = prepare(pm2);
    await pm2.pm2('start', ecosystem);
    await pm2.untilReady();
    const traffic = await startTraffic(pm2.ports, { newPerSecond: 100 });
    try {
      for (const [what, act] of steps) {
        const [{ number } = assert.fail('no generation')] = pm2.generations().slice(-1);
        await act();
        await eventually(
          `${what}: another generation to serve alone`,
          () => {
            const [first, ...more] = pm2.generations();
            return more.length === 0 && first?.ready && first.number > number;
          },
          60_000,
        );
        await pm2.untilReady();
        t.diagnostic(`${what}: ${describeTraffic(await traffic.look())}`);
      }
    } catch (error) {
      t.diagnostic(
        [...['envoy', 'envoy-manager'].map((app) => pm2.log(app)), pm2.ownLog()].join('\n'),
      );
      throw error;
    } finally {
      const report = await traffic.stop();
      t.diagnostic(describeTraffic(report));
      assert.equal(report.lost, 0, describeTraffic(report));
    }
  } finally {
    await pm2.stop();
  }
}
