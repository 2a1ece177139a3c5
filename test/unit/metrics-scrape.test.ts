import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { describe, it } from 'node:test';
import { silentLog } from '../../src/log.js';
import { createCallTally } from '../../src/manager/metrics/call-tally.js';
import { createDrainTally } from '../../src/manager/metrics/drain-tally.js';
import { createScrape } from '../../src/manager/metrics/scrape.js';
import type { Status } from '../../src/status/status.js';
import { createFakeClock, idleStatus } from './fakes.js';

function setUp(read: () => Promise<Status>) {
  const clock = createFakeClock();
  const calls = createCallTally();
  const failures = new Map<string, number>();
  const scrape = createScrape({
    config: { drainTimeoutMs: 300_000 },
    status: { read, peek: async () => ({ ...idleStatus, phase: 'delay' }) },
    calls,
    drains: createDrainTally({
      file: '/does/not/exist',
      drainUntil: 'connections',
      log: silentLog,
    }),
    host: { hookNames: ['shutdown:close'], failures },
    clock,
  });
  return { scrape, clock, calls, failures };
}

describe('createScrape', () => {
  it('loads prom-client for the first scrape only', async () => {
    const isLoaded = (): boolean =>
      Object.keys(createRequire(import.meta.url).cache).some((file) =>
        file.includes('/prom-client/'),
      );
    const { scrape } = setUp(async () => idleStatus);
    assert.equal(isLoaded(), false);
    await scrape();
    assert.equal(isLoaded(), true);
  });

  it('gives what the status, the tallies, the hooks and the process say', async () => {
    const { scrape, calls, failures } = setUp(async () => idleStatus);
    calls.noteRefusal('proxy');
    failures.set('shutdown:close', 2);
    const { text } = await scrape();
    for (const line of [
      'pm2_envoy_phase{phase="idle"} 1',
      'pm2_envoy_drain_timeout_seconds 300',
      'pm2_envoy_drains_total{command="handover",outcome="timeout"} 0',
      'pm2_envoy_refused_requests_total{reason="proxy"} 1',
      'pm2_envoy_hook_failures_total{hook="shutdown:close"} 2',
    ]) {
      assert.ok(text.includes(`\n${line}\n`), line);
    }
    assert.match(text, /^process_resident_memory_bytes \d{7,}$/m);
    assert.match(text, /^pm2_envoy_build_info\{version="\d+\.\d+\.\d+"\} 1$/m);
  });

  it('tells what is known without Envoy where that does not answer in time', async () => {
    const { scrape, clock } = setUp(() => new Promise(() => undefined));
    const { text } = await scrape();
    assert.deepEqual(clock.sleeps, [4_000]);
    assert.ok(text.includes('\npm2_envoy_phase{phase="delay"} 1\n'));
    assert.ok(text.includes('\npm2_envoy_envoy_up 0\n'));
  });

  it('is one for all who ask at the same moment, and another one afterwards', async () => {
    let reads = 0;
    const { scrape } = setUp(async () => {
      reads += 1;
      return idleStatus;
    });
    const [first, second] = await Promise.all([scrape(), scrape()]);
    assert.equal(first, second);
    assert.equal(reads, 1);
    await scrape();
    assert.equal(reads, 2);
  });

  it('counts on before anyone asks', async () => {
    const { scrape, calls } = setUp(async () => idleStatus);
    for (let count = 0; count < 3; count += 1) calls.noteRefusal('browser');
    const { text } = await scrape();
    assert.ok(text.includes('\npm2_envoy_refused_requests_total{reason="browser"} 3\n'));
  });
});
