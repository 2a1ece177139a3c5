import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { type Edge, PORTS, withEdge } from '../support/edge.js';
import { type Deletion, deletePod, type PreStop } from '../support/kubelet.js';
import { describeTraffic, type Traffic, type TrafficReport } from '../support/traffic.js';
import { eventually, letPass } from '../support/wait.js';

const TOKEN = 'a-token-of-this-test';
const EXEC: PreStop = { exec: { command: ['pm2-envoy', 'shutdown'] } };
const httpGet = (token: string): PreStop => ({
  httpGet: {
    path: '/shutdown',
    port: PORTS.serve,
    httpHeaders: [{ name: 'Authorization', value: `Bearer ${token}` }],
  },
});
const SHORT = { PM2_ENVOY_CHECK_DELAY: '4s', PM2_ENVOY_DRAIN_TIMEOUT: '30s' };
/** `drain-timeout` of {@link SHORT}, and what may come after it. */
const LONG_ENOUGH_S = 60;
/** Until no kube-proxy sends new connections any more; below `check-delay`. */
const ENDPOINT_LAG_MS = 500;
const GOES_ON = /SIGINT: stopping.*the drain of \S+ continues/s;

describe('a pod that is deleted under load loses nothing', { concurrency: 2 }, () => {
  it('with preStop by exec', (t) =>
    deleted(t, { preStop: EXEC, graceS: LONG_ENOUGH_S }, ({ deletion, log }) => {
      assert.equal(deletion.hook, 'done', deletion.hookSaid);
      assertEndedInHook(deletion, log);
    }));

  it('with preStop by httpGet from the node, with the token', (t) =>
    deleted(t, { preStop: httpGet(TOKEN), graceS: LONG_ENOUGH_S }, ({ deletion, log }) => {
      assert.equal(deletion.hook, 'done', deletion.hookSaid);
      assert.match(deletion.hookSaid, /^200 .*"outcome":"drained"/);
      assertEndedInHook(deletion, log);
    }));

  it('without a preStop', (t) =>
    deleted(t, { graceS: LONG_ENOUGH_S }, ({ deletion, log }) => {
      assert.equal(deletion.exitCode, 0);
      assertBegunBySignal(log);
    }));

  it('with a wrong token: 403 counts as done, and the drain begins with SIGTERM', (t) =>
    deleted(t, { preStop: httpGet('another'), graceS: LONG_ENOUGH_S }, ({ deletion, log }) => {
      assert.equal(deletion.hook, 'done');
      assert.match(deletion.hookSaid, /^403 /);
      assert.equal(deletion.exitCode, 0);
      assert.match(log, /refused: it comes from another host, and its Authorization is not the/);
      assertBegunBySignal(log);
    }));

  it('with a server on loopback: the hook fails, and the drain begins with SIGTERM', (t) => {
    const env = { PM2_ENVOY_SERVE_ADDRESS: '127.0.0.1' };
    const preStop = httpGet(TOKEN);
    return deleted(t, { preStop, graceS: LONG_ENOUGH_S, env }, ({ deletion, log }) => {
      assert.equal(deletion.hook, 'failed');
      assert.match(deletion.hookSaid, /ECONNREFUSED/);
      assert.equal(deletion.exitCode, 0);
      assertBegunBySignal(log);
    });
  });

  it('with a preStop that SIGTERM interrupts, and a drain that ends in the time after it', (t) =>
    deleted(t, { preStop: EXEC, graceS: 4, extraS: 20, letGoAt: GOES_ON }, ({ deletion, log }) => {
      assert.equal(deletion.hook, 'unfinished');
      assert.match(log, /continues in phase \w+, connections left: [1-9]/);
      assert.match(log, /shutdown ended: drained/);
    }));
});

describe('a pod that is deleted with too short a time', { concurrency: 2 }, () => {
  it('is cut 2 s after SIGTERM, and has said how many connections were left', (t) =>
    cut(t, { graceS: 5 }, ({ deletion, log }) => {
      assert.equal(deletion.hook, 'unfinished');
      assert.equal(deletion.exitCode, 137);
      assert.ok(deletion.endAtMs >= 7_000, `${deletion.endAtMs} ms`);
      assert.doesNotMatch(log, /shutdown ended/);
      assert.match(log, GOES_ON);
      assert.match(log, /continues in phase wait.*connections left: 2/);
    }));

  it('is cut with its listeners open where the grace period is shorter than check-delay', (t) => {
    const env = { PM2_ENVOY_CHECK_DELAY: '15s' };
    return cut(t, { graceS: 3, env }, ({ deletion, log }) => {
      assert.equal(deletion.hook, 'unfinished');
      assert.equal(deletion.exitCode, 137);
      assert.match(log, GOES_ON);
      assert.match(log, /continues in phase delay.*connections left: 2/);
      assert.doesNotMatch(log, /shutdown: close/);
    });
  });

  it('ends with 0 where drain-timeout is over first, and says how many connections it cuts', (t) => {
    const env = { PM2_ENVOY_DRAIN_TIMEOUT: '3s' };
    return cut(t, { graceS: LONG_ENOUGH_S, env }, ({ deletion, log }) => {
      // Exit code 3 of `pm2-envoy shutdown`.
      assert.equal(deletion.hook, 'failed');
      assert.equal(deletion.exitCode, 0);
      assert.match(log, /shutdown ended: timeout after \d+ ms, connections left: 2/);
    });
  });
});

interface Case {
  preStop?: PreStop;
  graceS: number;
  /** What the kubelet gives from SIGTERM on at the least; its own 2 s would be a race with a busy machine. */
  extraS?: number;
  /** The clients keep what they hold until the log says this. */
  letGoAt?: RegExp;
  env?: Readonly<Record<string, string>>;
}

interface Seen {
  deletion: Deletion;
  /** Of the container. */
  log: string;
}

/** Deletes a pod under load; fails when something was lost. */
async function deleted(t: TestContext, what: Case, check: (seen: Seen) => void): Promise<void> {
  await withPod(what, async (edge) => {
    const traffic = await edge.startTraffic();
    await traffic.hold();
    const { letGoAt = /shutdown: delay/ } = what;
    const meanwhile = async (): Promise<void> => {
      await eventually(`${letGoAt}`, async () => letGoAt.test(await edge.logs()));
      await traffic.letGo();
    };
    const { seen, report } = await end(edge, { what, traffic, meanwhile });
    say(t, seen, report);
    assert.equal(report.lost, 0, describeTraffic(report));
    assert.ok(report.kinds.slow.requests > 0, 'there were slow requests in flight');
    check(seen);
  });
}

/** Deletes a pod on which a TCP connection and a WebSocket are held to the end, which cuts both. */
async function cut(t: TestContext, what: Case, check: (seen: Seen) => void): Promise<void> {
  const env = { PM2_ENVOY_CHECK_DELAY: '1s', ...what.env };
  await withPod({ ...what, env }, async (edge) => {
    const traffic = await edge.startTraffic(NOTHING_ELSE);
    await traffic.hold();
    const { seen, report } = await end(edge, { what: { preStop: EXEC, ...what }, traffic });
    say(t, seen, report);
    assert.equal(report.lost, 2, describeTraffic(report));
    check(seen);
  });
}

const NOTHING_ELSE = { keepAlive: 0, newPerSecond: 0, sessions: 0, slowPerSecond: 0 };

async function withPod({ env = {} }: Case, use: (edge: Edge) => Promise<void>): Promise<void> {
  await withEdge({ env: { ...SHORT, PM2_ENVOY_SHUTDOWN_TOKEN: TOKEN, ...env } }, use);
}

async function end(
  edge: Edge,
  how: { what: Case; traffic: Traffic; meanwhile?: () => Promise<void> },
): Promise<{ seen: Seen; report: TrafficReport }> {
  const { traffic, meanwhile } = how;
  const { preStop, graceS: terminationGracePeriodSeconds, extraS } = how.what;
  const ending = deletePod({
    name: edge.name,
    podIp: edge.pod.ipv4,
    node: edge.node,
    terminationGracePeriodSeconds,
    ...(preStop ? { preStop } : {}),
    ...(extraS === undefined ? {} : { minimumGraceS: extraS }),
  });
  await letPass(ENDPOINT_LAG_MS);
  await edge.moveAway(traffic);
  await eventually('the drain', async () => /shutdown: delay/.test(await edge.logs()));
  await traffic.echo();
  await meanwhile?.();
  const deletion = await ending;
  await traffic.echo();
  return { seen: { deletion, log: await edge.logs() }, report: await traffic.stop() };
}

function say(t: TestContext, { deletion }: Seen, report: TrafficReport): void {
  t.diagnostic(`${describeTraffic(report)}; ${JSON.stringify(deletion)}`);
}

/** The drain has ended in the hook, so there is nothing to wait for after SIGTERM. */
function assertEndedInHook({ exitCode }: Deletion, log: string): void {
  assert.equal(exitCode, 0);
  const [inHook = '', after = ''] = log.split(/^.*SIGINT: stopping.*$/m);
  assert.match(inHook, /shutdown ended: drained after \d+ ms, connections left: 0/);
  assert.doesNotMatch(after, /shutdown/);
}

function assertBegunBySignal(log: string): void {
  assert.match(log, /SIGINT: stopping.*shutdown: fail-health.*shutdown ended: drained/s);
  assert.doesNotMatch(log, GOES_ON);
}
