import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { podman } from '../support/podman.js';
import { describeTraffic, type Traffic } from '../support/traffic.js';
import { ENVOYS, PORTS, UNIT, untilBooted, type Vm, withVm } from '../support/vm.js';
import { eventually, patiently } from '../support/wait.js';

// With Envoy's own 10 minutes its busiest clients take 5 s longer to leave at a hand-over.
const SHORT = { 'check-delay': '4s', 'drain-timeout': '30s', 'envoy-drain-time': '15s' };
/** CAP_NET_BIND_SERVICE (10), as /proc shows it. */
const BIND_ONLY = '0000000000000400';
const WRITABLE = ['/run/pm2-envoy', '/var/lib/pm2-envoy', '/var/log/pm2-envoy'];

describe('a host that docs/hosts.md was followed on', () => {
  it('keeps serving port 80, as a user of its own that may do hardly more than that', (t) =>
    withVm({ plain: true }, async (vm) => {
      assert.equal(await vm.run('sysctl -n net.ipv4.ip_unprivileged_port_start'), '1024');
      const answer = await vm.network.call({ port: PORTS.http });
      assert.equal(answer.body, 'Envoy serves, pm2-envoy watches over it.\n');
      await assertConfined(vm);
      assert.equal(await vm.run(`systemd-analyze verify ${UNIT} 2>&1`), '');
      const security = await vm.run(`systemd-analyze security --no-pager ${UNIT} | tail -n 1`);
      t.diagnostic(security);
      assert.ok(Number(/: ([\d.]+)/.exec(security)?.[1]) <= 2, security);
      assert.equal(await vm.run('stat --format "%U %a" /run/pm2-envoy'), 'pm2-envoy 700');
      const doctor = await vm.run('pm2-envoy doctor');
      t.diagnostic(doctor);
      assert.match(doctor, /systemd +TimeoutStopSec 6m of .* covers kill_timeout 5m30s/);
      assert.match(doctor, /0 problems, 0 warnings$/);
      // Root's own pm2 may be somewhere else.
      assert.match(await vm.run('PM2_HOME=/root/.pm2 pm2 ls'), /envoy-manager/);
    }));

  it('is stopped with nothing cut and nothing left', (t) =>
    withVm({ settings: SHORT }, async (vm) => {
      const traffic = await vm.startTraffic();
      await traffic.hold();
      const stopping = vm.run(`systemctl stop ${UNIT}`);
      await leave(vm, traffic);
      await stopping;
      await assertNothingLost(t, traffic);
      assert.deepEqual(await vm.unit('ActiveState', 'Result'), {
        ActiveState: 'inactive',
        Result: 'success',
      });
      assert.equal(await ours(vm), '');

      await vm.run(`systemctl start ${UNIT}`);
      await patiently('the host to serve again', vm.isReady);
      await vm.run(`systemctl restart ${UNIT}`);
      await patiently('the host to serve again', vm.isReady);
      assert.equal((await vm.network.call({ port: PORTS.http })).body, 'hello');
    }));

  it('drains before a reboot, and serves after it', (t) =>
    withVm({ settings: SHORT }, async (vm) => {
      const traffic = await vm.startTraffic();
      await traffic.hold();
      await vm.run('systemctl reboot');
      await leave(vm, traffic);
      assert.equal(await podman('wait', vm.name), '0');
      await podman('start', vm.name);
      await untilBooted(vm);
      await patiently('the host to serve again', vm.isReady);
      await traffic.moveTo(PORTS);
      await traffic.hold();
      await traffic.echo();
      await traffic.letGo();
      await assertNothingLost(t, traffic);
    }));

  it('serves all the while when pm2’s daemon is killed, and has a new one', (t) =>
    withVm({ settings: SHORT }, async (vm) => {
      const traffic = await vm.startTraffic();
      await traffic.hold();
      const { MainPID: daemon } = await vm.unit('MainPID');
      const [envoy = ''] = await envoys(vm);
      await killDaemon(vm);
      await patiently('a new daemon', async () => {
        const { MainPID, ActiveState } = await vm.unit('MainPID', 'ActiveState');
        return ActiveState === 'active' && MainPID !== daemon;
      });
      await patiently('a new Envoy', async () => (await envoys(vm)).some((pid) => pid !== envoy));
      await traffic.echo();
      await traffic.letGo();
      await eventually('the old one to end', async () => !(await envoys(vm)).includes(envoy));
      await patiently('the host to be ready', vm.isReady);
      assert.deepEqual(await vm.unit('NRestarts'), { NRestarts: '1' });
      await assertConfined(vm);
      await assertNothingLost(t, traffic);
    }));

  it('takes over another Envoy by redeploy and by systemctl reload, and rotates its logs', (t) =>
    withVm({ settings: SHORT }, async (vm) => {
      const traffic = await vm.startTraffic();
      await vm.run(`install ${ENVOYS.newer} /usr/local/bin/envoy`);
      const redeployed = await vm.run('runuser -u pm2-envoy -- pm2-envoy redeploy');
      assert.match(
        redeployed,
        /generation 2 \(Envoy 1\.40\.0\) serves after .*, 0 connections cut/,
      );
      await assertRotates(vm);
      await assertNothingLost(t, traffic);
    }));

  it('has nothing left after a stop that does not go well', (t) =>
    withVm({ settings: SHORT }, async (vm) => {
      const traffic = await vm.startTraffic();
      await traffic.hold();
      // There is no daemon that could drain yet, but the Envoy of the one before.
      await killDaemon(vm);
      await vm.run(
        `until systemctl show -p SubState ${UNIT} | grep -qx SubState=start; do :; done`,
      );
      const stopping = vm.run(`systemctl stop ${UNIT}`);
      await vm.moveAway(traffic);
      await traffic.echo();
      await traffic.letGo();
      await stopping;
      await assertNothingLost(t, traffic);
      assert.equal(await ours(vm), '');

      const shorter = vm.give('shorter.conf', '[Service]\nTimeoutStopSec=500ms\n');
      await vm.run(`install -D -t /run/systemd/system/${UNIT}.d ${shorter}`);
      await vm.run(`systemctl daemon-reload; systemctl start ${UNIT}`);
      await patiently('the host to serve again', vm.isReady);
      const doctor = await vm.run('pm2-envoy doctor || true');
      assert.match(doctor, /PROBLEM systemd +TimeoutStopSec 500ms of .* does not cover/);
      await vm.run(`systemctl stop ${UNIT}`);
      assert.deepEqual(await vm.unit('Result'), { Result: 'timeout' });
      assert.equal(await ours(vm), '');
    }));
});

/** Does what a load balancer and clients do when a host drains. */
async function leave(vm: Vm, traffic: Traffic): Promise<void> {
  await eventually('the drain', async () => !(await vm.isReady()));
  await vm.moveAway(traffic);
  await traffic.echo();
  await traffic.letGo();
}

/** Every process of the unit is its user's, with one capability, and can write to its own folders only. */
async function assertConfined(vm: Vm): Promise<void> {
  const shown = await vm.run(`
    for pid in $(pgrep -u pm2-envoy); do
      echo "process $(tr '\\0' ' ' </proc/$pid/cmdline)"
      grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/$pid/status
      grep name=systemd: /proc/$pid/cgroup || grep ^0:: /proc/$pid/cgroup
      for folder in /etc /usr /root ${WRITABLE.join(' ')}; do
        nsenter --target $pid --mount -- test -w $folder && echo "writes $folder"
      done
      true
    done`);
  const processes = shown.split(/^process /m).slice(1);
  assert.ok(processes.length >= 4, `pm2, two apps and Envoy: ${shown}`);
  for (const text of processes) {
    for (const name of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb']) {
      assert.match(text, new RegExp(`^${name}:\t${BIND_ONLY}$`, 'm'));
    }
    assert.match(text, /^NoNewPrivs:\t1$/m);
    assert.match(text, /^Seccomp:\t2$/m);
    assert.match(text, new RegExp(`/${UNIT}$`, 'm'));
    const writable = [...text.matchAll(/^writes (.*)$/gm)].map(([, folder]) => folder);
    assert.deepEqual(writable, WRITABLE, text);
  }
}

/** All processes log to the new file: Envoy immediately, its runner when it stops. */
async function assertRotates(vm: Vm): Promise<void> {
  const read = (file: string): Promise<string> => vm.run(`cat /var/log/pm2-envoy/${file}`);
  await vm.run('logrotate --force /etc/logrotate.d/pm2-envoy');
  assert.match(await read('envoy.log.1'), /Envoy 1\.40\.0 is LIVE: generation 2/);
  await eventually('the access log in the new file', async () =>
    /"GET \/ HTTP\/1\.1" 200/.test(await read('envoy.log')),
  );
  await vm.run(`systemctl reload ${UNIT}`);
  const now = await read('envoy.log');
  assert.match(now, /Envoy 1\.40\.0 is LIVE: generation 3/);
  assert.match(now, /generation 2 has ended/);
  assert.doesNotMatch(now, /is LIVE: generation 2/);
}

function killDaemon(vm: Vm): Promise<string> {
  return vm.run(`systemctl kill --signal=KILL --kill-who=main ${UNIT}`);
}

/** The pids of the Envoys that run. */
async function envoys(vm: Vm): Promise<string[]> {
  return (await vm.run('pgrep -x envoy')).split('\n');
}

/** The processes of the service's user. */
function ours(vm: Vm): Promise<string> {
  return vm.run('pgrep --list-full -u pm2-envoy || true');
}

async function assertNothingLost(t: TestContext, traffic: Traffic): Promise<void> {
  const report = await traffic.stop();
  t.diagnostic(describeTraffic(report));
  assert.equal(report.lost, 0, describeTraffic(report));
  assert.equal(report.closedUnannounced, 0);
}
