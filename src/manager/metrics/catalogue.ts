/** One metric of `/metrics`; docs/metrics.md has a row for each. */
export interface MetricDefinition {
  readonly name: string;
  readonly type: 'gauge' | 'counter' | 'histogram';
  readonly help: string;
  readonly labels?: readonly string[];
}

/** Every metric, in the order in which they are shown. Times are in seconds, sizes in bytes. */
export const METRICS: readonly MetricDefinition[] = [
  {
    name: 'pm2_envoy_build_info',
    type: 'gauge',
    help: 'Always 1; the label is the version of pm2-envoy that the manager runs.',
    labels: ['version'],
  },
  {
    name: 'pm2_envoy_phase',
    type: 'gauge',
    help: '1 for the current phase of this host, 0 for the others; finish means that a drain has ended.',
    labels: ['phase'],
  },
  {
    name: 'pm2_envoy_orphaned_drain',
    type: 'gauge',
    help: '1 while Envoy is DRAINING although pm2-envoy runs no drain, otherwise 0.',
  },
  {
    name: 'pm2_envoy_open_connections',
    type: 'gauge',
    help: 'Open connections, including those of an older Envoy in a hand-over; absent while they cannot be counted.',
  },
  {
    name: 'pm2_envoy_listener_open_connections',
    type: 'gauge',
    help: 'Open connections by listener; one that was never used is absent.',
    labels: ['listener'],
  },
  {
    name: 'pm2_envoy_kind_open_connections',
    type: 'gauge',
    help: 'Open connections by what they carry; a websocket over HTTP/2 is a stream of an http2 connection and is counted in addition to it.',
    labels: ['kind'],
  },
  {
    name: 'pm2_envoy_active_requests',
    type: 'gauge',
    help: 'HTTP requests in progress; an upgraded connection counts as one.',
  },
  {
    name: 'pm2_envoy_new_connections_per_second',
    type: 'gauge',
    help: 'New connections per second, between the last two polls of Envoy.',
  },
  {
    name: 'pm2_envoy_drain_timeout_seconds',
    type: 'gauge',
    help: 'The setting drain-timeout: the upper bound of a drain.',
  },
  {
    name: 'pm2_envoy_drain_deadline_timestamp_seconds',
    type: 'gauge',
    help: 'Deadline of the current drain, as a Unix time; absent without a drain.',
    labels: ['command'],
  },
  {
    name: 'pm2_envoy_drain_time_left_seconds',
    type: 'gauge',
    help: 'Time until the deadline of the current drain; absent without a drain.',
    labels: ['command'],
  },
  {
    name: 'pm2_envoy_drain_open_connections',
    type: 'gauge',
    help: 'Open connections of the Envoys that are being drained; absent without a drain.',
    labels: ['command'],
  },
  {
    name: 'pm2_envoy_drains_total',
    type: 'counter',
    help: 'Drains of this host (shutdown) and hand-overs to a newer Envoy (handover) that have ended, regardless of which process led them.',
    labels: ['command', 'outcome'],
  },
  {
    name: 'pm2_envoy_drain_duration_seconds',
    type: 'histogram',
    help: 'Duration of drains and hand-overs; cancelled ones are not included.',
    labels: ['command'],
  },
  {
    name: 'pm2_envoy_connections_cut_total',
    type: 'counter',
    help: 'Connections that were open at the end of a drain or hand-over, and are cut when Envoy is stopped. Idle ones that drain-until requests does not wait for are not included.',
    labels: ['command'],
  },
  {
    name: 'pm2_envoy_reload_failures_total',
    type: 'counter',
    help: 'Reloads whose new Envoy did not come up; the old one kept serving.',
  },
  {
    name: 'pm2_envoy_generations',
    type: 'gauge',
    help: 'Envoys of this host that pm2-envoy started, by state.',
    labels: ['state'],
  },
  {
    name: 'pm2_envoy_udp_steered',
    type: 'gauge',
    help: '1 while HTTP/3 and UDP of the newest Envoy are handed over without loss, 0 if a reload loses some; absent without UDP listeners.',
  },
  {
    name: 'pm2_envoy_generation_udp_open',
    type: 'gauge',
    help: 'Open HTTP/3 connections and UDP sessions by generation; absent without UDP listeners.',
    labels: ['generation', 'kind'],
  },
  {
    name: 'pm2_envoy_envoy_up',
    type: 'gauge',
    help: '1 while the Envoy in service answers on its admin interface, otherwise 0.',
  },
  {
    name: 'pm2_envoy_failed_starts',
    type: 'gauge',
    help: 'Consecutive failed starts of Envoy; 0 while an Envoy serves.',
  },
  {
    name: 'pm2_envoy_envoy_info',
    type: 'gauge',
    help: 'Always 1; the labels are version and generation of the Envoy in service. Absent without one; an Envoy at admin-address has no generation.',
    labels: ['version', 'generation'],
  },
  {
    name: 'pm2_envoy_envoy_uptime_seconds',
    type: 'gauge',
    help: 'How long the Envoy in service has been running; absent while it does not answer.',
  },
  {
    name: 'pm2_envoy_admin_calls_total',
    type: 'counter',
    help: 'Completed calls of the manager to the admin interface of Envoy, including failed ones.',
    labels: ['call'],
  },
  {
    name: 'pm2_envoy_admin_call_seconds_total',
    type: 'counter',
    help: 'Total time of calls to the admin interface.',
    labels: ['call'],
  },
  {
    name: 'pm2_envoy_admin_errors_total',
    type: 'counter',
    help: 'Failed calls to the admin interface, by error code.',
    labels: ['call', 'code'],
  },
  {
    name: 'pm2_envoy_refused_requests_total',
    type: 'counter',
    help: 'Requests to the manager that were refused with 403, by reason.',
    labels: ['reason'],
  },
  {
    name: 'pm2_envoy_hook_failures_total',
    type: 'counter',
    help: 'Hooks that failed or hung in a drain led by the manager.',
    labels: ['hook'],
  },
  {
    name: 'process_cpu_seconds_total',
    type: 'counter',
    help: 'CPU time used by the manager.',
  },
  {
    name: 'process_resident_memory_bytes',
    type: 'gauge',
    help: 'Resident memory of the manager.',
  },
  {
    name: 'process_start_time_seconds',
    type: 'gauge',
    help: 'When the manager started, as a Unix time.',
  },
  {
    name: 'process_open_fds',
    type: 'gauge',
    help: 'Open files of the manager; Linux only.',
  },
  {
    name: 'process_max_fds',
    type: 'gauge',
    help: 'Maximum number of open files of the manager; Linux only.',
  },
  {
    name: 'nodejs_heap_size_total_bytes',
    type: 'gauge',
    help: 'Size of the JavaScript heap of the manager.',
  },
  {
    name: 'nodejs_heap_size_used_bytes',
    type: 'gauge',
    help: 'Used size of the JavaScript heap of the manager.',
  },
  {
    name: 'nodejs_version_info',
    type: 'gauge',
    help: 'Always 1; the label is the version of Node that the manager runs on.',
    labels: ['version'],
  },
];
