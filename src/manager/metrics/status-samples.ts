import { type DrainCommand, SHUTDOWN_EVENTS } from '../../drain/state.js';
import type { GenerationStatus, Status } from '../../status/status.js';
import type { Sample } from './counters.js';

const PHASES: readonly Status['phase'][] = ['idle', ...SHUTDOWN_EVENTS];
/** Every state that a generation may have. */
export const GENERATION_STATES: readonly GenerationStatus['state'][] = [
  'starting',
  'serving',
  'handing-over',
  'draining',
  'drained',
];

/** What a status says, as gauges; what is not known is left out. `nowMs` is the wall clock. */
export function statusSamples(status: Status, nowMs: number): Sample[] {
  const { connections, generations } = status;
  const phase = status.outcome === null ? status.phase : 'finish';
  return [
    ...PHASES.map((one) => gauge('phase', one === phase ? 1 : 0, { phase: one })),
    ...known('orphaned_drain', status.orphanedDrain ? 1 : 0),
    ...known('open_connections', connections?.open),
    ...byLabel('listener', connections?.byListener),
    ...byLabel('kind', { ...connections?.byKind }),
    ...known('active_requests', status.activeRequests),
    ...known('new_connections_per_second', status.newConnectionsPerSecond),
    ...drainSamples('shutdown', underWay(status), nowMs),
    ...drainSamples('handover', handover(generations), nowMs),
    ...GENERATION_STATES.map((state) => {
      const those = generations.filter((one) => one.state === state);
      return gauge('generations', those.length, { state });
    }),
    ...udpSamples(generations),
    ...envoySamples(status),
  ];
}

interface UnderWay {
  /** ISO 8601 */
  deadline: string;
  /** Null: they can't be counted right now. */
  open: number | null;
}

function underWay({ outcome, deadline, connections }: Status): UnderWay | undefined {
  if (outcome !== null || deadline === null) return undefined;
  return { deadline, open: connections?.open ?? null };
}

/** Of several hand-overs the one that is over first. */
function handover(generations: readonly GenerationStatus[]): UnderWay | undefined {
  const leaving = generations.filter(({ state }) => state === 'handing-over');
  const [deadline] = leaving.flatMap((one) => one.deadline ?? []).sort();
  if (deadline === undefined) return undefined;
  const open = leaving.map(({ connections }) => connections);
  const sum = open.reduce<number>((total, count) => total + (count ?? 0), 0);
  return { deadline, open: open.includes(null) ? null : sum };
}

function drainSamples(command: DrainCommand, drain: UnderWay | undefined, nowMs: number): Sample[] {
  if (!drain) return [];
  const deadlineMs = Date.parse(drain.deadline);
  const leftMs = Math.max(0, deadlineMs - nowMs);
  return [
    gauge('drain_deadline_timestamp_seconds', deadlineMs / 1_000, { command }),
    gauge('drain_time_left_seconds', leftMs / 1_000, { command }),
    ...known('drain_open_connections', drain.open, { command }),
  ];
}

function udpSamples(generations: readonly GenerationStatus[]): Sample[] {
  const newest = generations.findLast(({ state }) => state === 'serving')?.udp;
  return [
    ...known('udp_steered', newest ? Number(newest.state === 'steered') : undefined),
    ...generations.flatMap(({ number, udp }) => [
      ...known('generation_udp_open', udp?.http3, { generation: String(number), kind: 'http3' }),
      ...known('generation_udp_open', udp?.sessions, { generation: String(number), kind: 'udp' }),
    ]),
  ];
}

function envoySamples({ envoy, generations, failedStart }: Status): Sample[] {
  const serving = generations.find(({ number }) => number === envoy?.generation);
  const version = envoy?.version ?? serving?.version;
  const generation = String(envoy?.generation ?? '');
  return [
    gauge('envoy_up', envoy && envoy.state !== null ? 1 : 0),
    gauge('failed_starts', failedStart?.count ?? 0),
    ...known('envoy_info', version ? 1 : undefined, { version: version ?? '', generation }),
    ...known('envoy_uptime_seconds', envoy?.uptimeSeconds),
  ];
}

function byLabel(label: string, counts: Readonly<Record<string, number>> = {}): Sample[] {
  return Object.entries(counts).map(([value, count]) =>
    gauge(`${label}_open_connections`, count, { [label]: value }),
  );
}

function known(
  name: string,
  value: number | null | undefined,
  labels?: Sample['labels'],
): Sample[] {
  return typeof value === 'number' ? [gauge(name, value, labels)] : [];
}

function gauge(name: string, value: number, labels: Sample['labels'] = {}): Sample {
  return { name: `pm2_envoy_${name}`, labels, value };
}
