import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import type { Finding } from '../../src/cli/doctor/finding.js';
import type { DrainResult } from '../../src/drain/state.js';
import { readEndpoint } from '../../src/host/endpoint.js';
import { holdTcp } from '../support/clients.js';
import { makeFolder } from '../support/folder.js';
import { type TestHost, withHost } from '../support/host.js';
import { freePorts } from '../support/ports.js';
import { patiently } from '../support/wait.js';

const DRAIN_TIMEOUT_MS = 15_000;
/** A loaded machine starts the command line in seconds. */
const SLACK_MS = 15_000;

describe('pm2-envoy, while the manager is silent', { concurrency: 2 }, () => {
  it('drains directly after seconds when the manager is stopped (SIGSTOP)', () =>
    withHost({ 'drain-timeout': '60s' }, async (host) => {
      const { envoy } = await host.startGeneration();
      const manager = await host.startManager();
      await patiently('it to be written down', () => readEndpoint(host.runDir));
      manager.kill('SIGSTOP');
      const status = await host.cli(['status', '--json']);
      assert.equal(status.code, 0, status.stderr);
      assert.match(status.stderr, /is stopped.*asked Envoy directly/);
      const doctor = await host.cli(['doctor']);
      assert.match(doctor.stdout, new RegExp(`-> \`kill -CONT ${manager.pid}\` lets it go on`));
      const startedMs = performance.now();
      const { code, stdout, stderr } = await host.cli(['shutdown', '--json']);
      assert.equal(code, 0, stderr);
      assert.equal((JSON.parse(stdout) as DrainResult).outcome, 'drained');
      assert.match(stderr, /the manager .* is stopped.*: draining Envoy directly/);
      const tookMs = performance.now() - startedMs;
      assert.ok(tookMs < 40_000, `it took ${Math.round(tookMs)} ms`);
      assert.equal(envoy.isRunning(), true);
      // What the manager finds in its socket when it goes on is the drain that has ended.
      manager.kill('SIGCONT');
      const again = await host.http('POST', '/shutdown');
      assert.deepEqual([again.status, JSON.parse(again.body)], [200, JSON.parse(stdout)]);
    }));

  it('keeps to drain-timeout when the manager that leads the drain is stopped in the middle', () =>
    withHost({ 'drain-timeout': `${DRAIN_TIMEOUT_MS}ms` }, async (host) => {
      const { ports, record } = await host.startGeneration();
      const manager = await host.startManager();
      const held = await holdTcp(ports.tcp);
      const startedMs = performance.now();
      const command = host.cli(['shutdown', '--json']);
      await patiently('the manager to wait', () => {
        const drain = record();
        return drain?.phase === 'wait' && drain.leader.pid === manager.pid;
      });
      manager.kill('SIGSTOP');
      const { code, stdout } = await command;
      held.close();
      const tookMs = performance.now() - startedMs;
      // On a machine that is very busy the last look at Envoy may come too late.
      assert.match((JSON.parse(stdout) as DrainResult).outcome, /^(timeout|admin-unreachable)$/);
      assert.notEqual(code, 0);
      assert.ok(tookMs < DRAIN_TIMEOUT_MS + SLACK_MS, `it took ${Math.round(tookMs)} ms`);
    }));

  it('takes the drain over from a manager whose event loop is blocked, and can cancel it', () =>
    withBlocked('wait', { 'drain-timeout': '60s' }, async (host) => {
      const { ports, record } = await host.startGeneration();
      const manager = await host.startManager();
      const held = await holdTcp(ports.tcp);
      const command = host.cli(['shutdown', '--json']);
      await patiently('the command line to lead', () => {
        const drain = record();
        return drain?.phase === 'wait' && drain.leader.pid !== manager.pid;
      });
      held.close();
      const { code, stdout, stderr } = await command;
      assert.equal(code, 0, stderr);
      assert.equal((JSON.parse(stdout) as DrainResult).outcome, 'drained');
      assert.match(stderr, /has not answered for 5 s, not even \/healthz: draining Envoy directly/);
      assert.equal(manager.isRunning(), true);
    }));

  it('cancels a drain that a silent manager leads', () =>
    withBlocked('delay', { 'drain-timeout': '60s', 'check-delay': '40s' }, async (host) => {
      const { record } = await host.startGeneration();
      await host.startManager();
      void host.http('POST', '/shutdown').catch(() => undefined);
      await patiently('the drain', () => record()?.phase === 'delay');
      const startedMs = performance.now();
      const { code, stdout, stderr } = await host.cli(['resume']);
      assert.equal(code, 0, stderr);
      assert.match(stdout, /cancelled; Envoy is LIVE again/);
      assert.ok(performance.now() - startedMs < 28_000);
    }));
});

describe('pm2-envoy, where the manager of another project has the port', () => {
  it('drains its own Envoy, not the other one’s, and the doctor says so', async () => {
    const [port = 0] = await freePorts(1);
    await withHost({ 'serve-port': port }, (first) =>
      withHost({ 'serve-port': port }, async (second) => {
        await first.startGeneration();
        await first.startManager();
        const { record } = await second.startGeneration();
        const { code, stdout, stderr } = await second.cli(['shutdown', '--json']);
        assert.equal(code, 0, stderr);
        assert.equal((JSON.parse(stdout) as DrainResult).outcome, 'drained');
        assert.match(stderr, new RegExp(`another project's .*${first.runDir}`));
        assert.equal(record()?.result?.outcome, 'drained');
        assert.equal((await first.http('GET', '/readyz')).status, 200, 'the first one serves');
        const doctor = await second.cli(['doctor', '--json']);
        const findings = JSON.parse(doctor.stdout) as { findings: Finding[] };
        const found = findings.findings.find(({ topic }) => topic === 'manager');
        assert.equal(found?.level, 'problem');
        assert.match(String(found?.message), /another project's/);
        assert.match(String(found?.remedy), /^set another serve-port in this project/);
        const status = await first.cli(['status', '--json']);
        assert.equal(JSON.parse(status.stdout).phase, 'idle', status.stderr);
      }),
    );
  });
});

describe('pm2-envoy, where the run directory can’t be made', () => {
  it('does not take its own manager for that of another project', async () => {
    const [port = 0] = await freePorts(1);
    const settings = { 'serve-port': port, 'run-dir': `/tmp/${'long'.repeat(30)}` };
    await withHost(settings, async (host) => {
      await host.startManager();
      const { stdout, stderr } = await host.cli(['doctor']);
      assert.match(stdout, /PROBLEM run-dir .*its path is longer/);
      assert.match(stdout, /ok +manager +answers at/);
      assert.doesNotMatch(stdout + stderr, /another project/);
    });
  });
});

/** A host whose manager, and only it, is blocked from an event on, for longer than the test takes. */
async function withBlocked(
  event: string,
  settings: Record<string, unknown>,
  use: (host: TestHost) => Promise<void>,
): Promise<void> {
  const folder = makeFolder();
  const plugin = join(folder.path, 'blocks.cjs');
  writeFileSync(
    plugin,
    `module.exports = class {
  constructor() {
    this.hooks = { 'before:shutdown:${event}': () => {
      if (!process.argv[1].endsWith('manager.js')) return;
      const endMs = Date.now() + 90_000;
      while (Date.now() < endMs);
    } };
  }
};
`,
  );
  try {
    await withHost({ ...settings, plugins: [plugin] }, use);
  } finally {
    folder.remove();
  }
}
