import assert from 'node:assert/strict';
import { after, before, describe, it, type TestContext } from 'node:test';
import type { PlaybookRun } from '../support/ansible.js';
import { envoyBinary, type TestEnvoy } from '../support/envoy.js';
import { type Fleet, makeFleet } from '../support/fleet.js';
import { describeTraffic, type Traffic } from '../support/traffic.js';

const NAMES = ['edge1', 'edge2', 'edge3'];
const ALL_AT_ONCE = { pm2_envoy_serial: '100%' };
const OLDER = {
  pm2_envoy_envoy_version: '1.39.3',
  pm2_envoy_envoy_file: envoyBinary('OLDER_ENVOY_BIN'),
};
const NEWER = { pm2_envoy_envoy_version: '1.40.0', pm2_envoy_envoy_file: envoyBinary() };
const SETTINGS = {
  // The front Envoy asks 5 times a second.
  'check-delay': '2s',
  'drain-timeout': '30s',
  // Its connections leave with their next answer, not over ten minutes.
  'envoy-args': ['--drain-strategy', 'immediate'],
};
const CHANGED = {
  ...NEWER,
  pm2_envoy_settings: {
    ...SETTINGS,
    // The apps read it when they start.
    'drain-timeout': "{{ '40s' if inventory_hostname == 'edge3' else '30s' }}",
  },
};

describe('deploy/ansible', () => {
  let fleet: Fleet;
  let front: TestEnvoy;
  let traffic: Traffic;
  let lostBefore = 0;

  before(async () => {
    fleet = await makeFleet(NAMES);
    const installed = await roll('one', { ...OLDER, ...ALL_AT_ONCE });
    assert.equal(installed.code, 0, installed.output);
    front = await fleet.startFront();
    traffic = await fleet.startLoad(['one', 'two', 'three']);
  });

  after(async () => {
    await fleet?.stop();
  });

  it('upgrades Envoy host by host, with nothing lost and no host out of service', async (t) => {
    const refusals = await refusedChecks();
    const upgrade = await roll('one', NEWER);
    await report(t, upgrade);
    assert.equal(upgrade.code, 0, upgrade.output);
    assert.equal(upgrade.batchesMs.length, NAMES.length);
    assert.equal(await refusedChecks(), refusals);
    assert.deepEqual(await serving(), each('generation 2, 1.40.0, one'));
  });

  it('shows with --check what would change, and changes nothing', async (t) => {
    const check = await roll('two', NEWER, '--check', '--diff', '--limit', 'edge1');
    await report(t, check);
    assert.equal(check.code, 0, check.output);
    assert.match(check.output, /^-.*"one"$/m);
    assert.match(check.output, /^\+.*"two"$/m);
    assert.match(check.output, /generation 2 \(Envoy 1.40.0\) serves, it is redeployed/);
    assert.deepEqual(await serving(), each('generation 2, 1.40.0, one'));
  });

  it('changes the configuration host by host, with nothing lost', async (t) => {
    const change = await roll('two', CHANGED);
    await report(t, change);
    assert.equal(change.code, 0, change.output);
    assert.deepEqual(await serving(), each('generation 3, 1.40.0, two'));
    assert.deepEqual(await killTimeouts(), [60_000, 60_000, 70_000], 'its drain-timeout and 30 s');
  });

  it('changes nothing the second time', async (t) => {
    const again = await roll('two', CHANGED, '--limit', 'edge1');
    await report(t, again);
    assert.equal(again.code, 0, again.output);
    assert.deepEqual(again.recap, { edge1: { changed: 0, failed: 0 } });
    assert.deepEqual(await serving(), each('generation 3, 1.40.0, two'));
  });

  it('stops at the first host where Envoy refuses the bootstrap, before anything has changed', async (t) => {
    const pm2_envoy_bootstrap = fleet.writeBootstrap('refused', 'no address');
    const refused = await roll('two', { ...CHANGED, pm2_envoy_bootstrap });
    await report(t, refused);
    assert.notEqual(refused.code, 0);
    assert.match(refused.output, /Envoy refuses the bootstrap file/);
    assert.deepEqual(refused.recap, { edge1: { changed: 0, failed: 1 } });
    assert.deepEqual(await serving(), each('generation 3, 1.40.0, two'));
  });

  it('has a host where Envoy does not start go back with its batch, and stops', async (t) => {
    const bad = "{{ '203.0.113.1' if inventory_hostname == 'edge2' else '0.0.0.0' }}";
    const pm2_envoy_bootstrap = fleet.writeBootstrap('three', bad);
    const failed = await roll('two', { ...CHANGED, pm2_envoy_bootstrap, pm2_envoy_serial: 2 });
    await report(t, failed);
    assert.notEqual(failed.code, 0);
    assert.match(failed.output, /Envoy exited with code 1 before it was LIVE/);
    assert.match(failed.output, /generation 3 \(Envoy 1.40.0\) serves, and the host is ready/);
    assert.match(failed.output, /another host of its batch has failed/);
    assert.deepEqual(Object.keys(failed.recap), ['edge1', 'edge2']);
    assert.deepEqual((await serving()).map(withoutGeneration), each('1.40.0, two'));
    const read = ['cat', '/etc/pm2-envoy/envoy.yaml'];
    const files = await Promise.all(fleet.hosts.map((host) => host.exec(...read)));
    assert.equal(files[1], files[2]?.replace('edge3', 'edge2'));
  });

  it('drains, stops and starts host by host, with nothing lost', async (t) => {
    const refusals = await refusedChecks();
    const [first = '', second = '', third = ''] = await serving();
    const { url, checksum } = await fleet.serveEnvoy('OLDER_ENVOY_BIN');
    const variables = {
      ...CHANGED,
      pm2_envoy_envoy_file: '',
      pm2_envoy_strategy: 'drain',
      pm2_envoy_envoy_version: '1.39.3-fetched',
      pm2_envoy_envoy_url: url,
      pm2_envoy_envoy_checksum: checksum,
      pm2_envoy_while_drained: fleet.writeTasks([
        { 'ansible.builtin.command': 'touch /root/while-drained' },
      ]),
      pm2_envoy_balancer_delay: 1,
    };
    const drained = await roll('three', variables, '--limit', 'edge1,edge2');
    await report(t, drained);
    assert.equal(drained.code, 0, drained.output);
    assert.ok((await refusedChecks()) >= refusals + 2, 'each of the two was out of service');
    const now = await serving();
    assert.deepEqual(now.slice(0, 2).map(withoutGeneration), ['1.39.3, three', '1.39.3, three']);
    assert.notDeepEqual(now.slice(0, 2), [first, second]);
    assert.equal(now[2], third);
    for (const host of fleet.hosts.slice(0, 2))
      await host.exec('test', '-e', '/root/while-drained');
  });

  it('upgrades pm2-envoy host by host, and goes back, with nothing lost', async (t) => {
    const version = (await versions())[0] ?? assert.fail('no version');
    const pm2_envoy_package = await fleet.packAs('999.0.0');
    for (const [package_, expected] of [
      [{ pm2_envoy_package }, '999.0.0'],
      [{}, version],
    ] as const) {
      const before = await serving();
      const upgrade = await roll('three', { ...CHANGED, ...package_ });
      await report(t, upgrade);
      assert.equal(upgrade.code, 0, upgrade.output);
      assert.deepEqual(await versions(), each(expected));
      const now = await serving();
      assert.deepEqual(now.map(withoutGeneration), each('1.40.0, three'));
      assert.ok(now.every((one, index) => one !== before[index]));
    }
  });

  function roll(
    body: string,
    variables: Readonly<Record<string, unknown>>,
    ...args: string[]
  ): Promise<PlaybookRun> {
    const pm2_envoy_bootstrap = fleet.writeBootstrap(body);
    const all = { pm2_envoy_bootstrap, pm2_envoy_settings: SETTINGS, ...variables };
    return fleet.roll(all, ...args);
  }

  /** What keeps serving each host. */
  function serving(): Promise<string[]> {
    const one = async ({ status, answer }: Fleet['hosts'][number]): Promise<string> => {
      const { envoy } = await status();
      return `generation ${envoy?.generation}, ${envoy?.version}, ${answer()}`;
    };
    return Promise.all(fleet.hosts.map(one));
  }

  /** Which pm2-envoy runs as the manager of each host. */
  function versions(): Promise<string[]> {
    return Promise.all(
      fleet.hosts.map(async ({ status }) => (await status()).settings?.version ?? ''),
    );
  }

  /** What pm2 has for the app `envoy` of each host. */
  function killTimeouts(): Promise<unknown[]> {
    const one = async ({ exec }: Fleet['hosts'][number]): Promise<unknown> => {
      const apps: Pm2App[] = JSON.parse(await exec('pm2', 'jlist'));
      return apps.find(({ name }) => name === 'envoy')?.pm2_env.kill_timeout;
    };
    return Promise.all(fleet.hosts.map(one));
  }

  /** How often the front Envoy was told by a host that it wants no traffic. */
  async function refusedChecks(): Promise<number> {
    const filter = '^cluster\\.hosts\\.health_check\\.failure$';
    const { stats } = await front.admin.stats({ type: 'Counters', filter, alsoUnused: true });
    return stats[0]?.value ?? assert.fail('there is no such counter');
  }

  /** Shows what there was since the last time, and fails when some of it was lost. */
  async function report(t: TestContext, { batchesMs }: PlaybookRun): Promise<void> {
    const seen = await traffic.look();
    const seconds = batchesMs.map((ms) => (ms / 1_000).toFixed(1)).join(', ');
    t.diagnostic(`seconds per batch: ${seconds}; so far ${describeTraffic(seen)}`);
    const lost = seen.lost - lostBefore;
    lostBefore = seen.lost;
    assert.equal(lost, 0);
  }
});

interface Pm2App {
  name: string;
  pm2_env: { kill_timeout: number };
}

/** Where another generation may serve what served before. */
function withoutGeneration(serving: string): string {
  return serving.replace(/^generation \d+, /, '');
}

function each<T>(what: T): T[] {
  return NAMES.map(() => what);
}
