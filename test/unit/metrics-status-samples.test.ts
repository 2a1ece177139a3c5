import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { statusSamples } from '../../src/manager/metrics/status-samples.js';
import type { GenerationStatus, Status } from '../../src/status/status.js';
import { idleStatus } from './fakes.js';

const NOW_MS = Date.parse('2026-01-01T00:00:00.000Z');
const IN_30_S = '2026-01-01T00:00:30.000Z';

const generation: GenerationStatus = {
  ...{ number: 1, state: 'serving', version: '1.40.0', pid: 1, runnerPid: 1 },
  ...{ startedAt: '', connections: 0, deadline: null, paceLeftMs: null, failedReload: null },
  udp: null,
};

/** A host without a drain, with one Envoy that answers. */
const idle: Status = {
  ...idleStatus,
  connections: {
    open: 3,
    byListener: { web: 2, tcp: 1 },
    byKind: { http1: 2, http2: 0, http3: 0, tcp: 1, websocket: 1, udp: 0 },
  },
  ...{ activeRequests: 1, newConnectionsPerSecond: 4.5 },
  envoy: {
    ...{
      state: 'LIVE',
      silentSince: null,
      version: '1.40.0',
      uptimeSeconds: 7,
      concurrency: 2,
      listeners: 2,
    },
    ...{ admin: '', pid: 1, generation: 1 },
  },
  generations: [generation],
};

/** The lines of some metrics, as `name{labels} value` without pm2_envoy_. */
function lines(status: Status, names: RegExp): string[] {
  return statusSamples(status, NOW_MS)
    .filter(({ name }) => names.test(name))
    .map(({ name, labels, value }) => {
      const texts = Object.values(labels).join(',');
      return `${name.replace('pm2_envoy_', '')}{${texts}} ${value}`;
    });
}

const phasesOf = (status: Status): string[] =>
  lines(status, /_phase$/).filter((line) => line.endsWith(' 1'));

describe('statusSamples', () => {
  it('gives connections by listener and by kind', () => {
    assert.deepEqual(lines(idle, /connections|requests/), [
      'open_connections{} 3',
      'listener_open_connections{web} 2',
      'listener_open_connections{tcp} 1',
      'kind_open_connections{http1} 2',
      'kind_open_connections{http2} 0',
      'kind_open_connections{http3} 0',
      'kind_open_connections{tcp} 1',
      'kind_open_connections{websocket} 1',
      'kind_open_connections{udp} 0',
      'active_requests{} 1',
      'new_connections_per_second{} 4.5',
    ]);
  });

  it('leaves out what is not known, rather than saying 0', () => {
    const unknown = {
      ...idle,
      ...{ connections: null, activeRequests: null, newConnectionsPerSecond: null },
    };
    assert.deepEqual(lines(unknown, /connections|requests/), []);
  });

  it('says one phase; one that has ended is finish, wherever it was', () => {
    assert.equal(lines(idle, /_phase$/).length, 6);
    assert.deepEqual(phasesOf(idle), ['phase{idle} 1']);
    assert.deepEqual(phasesOf({ ...idle, phase: 'delay' }), ['phase{delay} 1']);
    const ended: Status = { ...idle, phase: 'wait', outcome: 'admin-unreachable' };
    assert.deepEqual(phasesOf(ended), ['phase{finish} 1']);
  });

  it('tells the time left and the connections of a drain, as long as it runs', () => {
    assert.deepEqual(lines(idle, /_drain_/), []);
    const draining: Status = { ...idle, phase: 'wait', deadline: IN_30_S };
    assert.deepEqual(lines(draining, /_drain_/), [
      `drain_deadline_timestamp_seconds{shutdown} ${NOW_MS / 1_000 + 30}`,
      'drain_time_left_seconds{shutdown} 30',
      'drain_open_connections{shutdown} 3',
    ]);
    assert.deepEqual(lines({ ...draining, outcome: 'timeout' }, /_drain_/), []);
  });

  it('tells of hand-overs the one that is over first, and the connections of all', () => {
    const leaving = { ...generation, state: 'handing-over' as const, connections: 2 };
    const status = {
      ...idle,
      generations: [
        { ...leaving, deadline: '2026-01-01T00:01:00.000Z' },
        { ...leaving, number: 2, deadline: IN_30_S },
        { ...generation, number: 3, connections: 9 },
      ],
    };
    assert.deepEqual(lines(status, /_drain_|_generations$/), [
      `drain_deadline_timestamp_seconds{handover} ${NOW_MS / 1_000 + 30}`,
      'drain_time_left_seconds{handover} 30',
      'drain_open_connections{handover} 4',
      'generations{starting} 0',
      'generations{serving} 1',
      'generations{handing-over} 2',
      'generations{draining} 0',
      'generations{drained} 0',
    ]);
    const [first] = status.generations;
    const uncounted = { ...first, connections: null } as GenerationStatus;
    assert.equal(lines({ ...idle, generations: [uncounted] }, /_drain_open/).length, 0);
  });

  it('says that a deadline that is over leaves no time', () => {
    const status: Status = { ...idle, phase: 'wait', deadline: '2025-12-31T23:59:59.000Z' };
    assert.deepEqual(lines(status, /time_left/), ['drain_time_left_seconds{shutdown} 0']);
  });

  it('tells an orphaned drain', () => {
    assert.deepEqual(lines(idle, /orphaned/), ['orphaned_drain{} 0']);
    assert.deepEqual(lines({ ...idle, orphanedDrain: true }, /orphaned/), ['orphaned_drain{} 1']);
  });

  it('tells the Envoy in service', () => {
    assert.deepEqual(lines(idle, /_envoy_envoy/), [
      'envoy_up{} 1',
      'envoy_info{1.40.0,1} 1',
      'envoy_uptime_seconds{} 7',
    ]);
  });

  it('tells one that does not answer from its generation, and none at all', () => {
    const silent = { ...idle.envoy, state: null, version: null, uptimeSeconds: null };
    const status = { ...idle, envoy: silent } as Status;
    assert.deepEqual(lines(status, /_envoy_envoy/), ['envoy_up{} 0', 'envoy_info{1.40.0,1} 1']);
    assert.deepEqual(lines(idleStatus, /_envoy_envoy/), ['envoy_up{} 0']);
  });
});
