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
    help: '1 for the phase that this host is in, 0 for the others; finish means that a drain has ended.',
    labels: ['phase'],
  },
  {
    name: 'pm2_envoy_orphaned_drain',
    type: 'gauge',
    help: '1 while Envoy is DRAINING although no drain of pm2-envoy runs, else 0.',
  },
  {
    name: 'pm2_envoy_open_connections',
    type: 'gauge',
    help: 'Open connections, those of an Envoy that is handed over from included; absent while they cannot be counted.',
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
    help: 'Open connections by what they carry; a websocket over HTTP/2 is a stream of an http2 connection, and counts beside it.',
    labels: ['kind'],
  },
  {
    name: 'pm2_envoy_active_requests',
    type: 'gauge',
    help: 'HTTP requests under way; an upgraded connection is one.',
  },
  {
    name: 'pm2_envoy_new_connections_per_second',
    type: 'gauge',
    help: 'New connections in a second, between the last two looks at Envoy.',
  },
  {
    name: 'pm2_envoy_drain_timeout_seconds',
    type: 'gauge',
    help: 'The setting drain-timeout: what a drain may take at most.',
  },
  {
    name: 'pm2_envoy_drain_deadline_timestamp_seconds',
    type: 'gauge',
    help: 'When the drain under way is over at the latest, as a Unix time; absent without one.',
    labels: ['command'],
  },
  {
    name: 'pm2_envoy_drain_time_left_seconds',
    type: 'gauge',
    help: 'Time until the deadline of the drain under way; absent without one.',
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
    help: 'Drains of this host (shutdown) and hand-overs to a newer Envoy (handover) that have ended, whichever process led them.',
    labels: ['command', 'outcome'],
  },
  {
    name: 'pm2_envoy_drain_duration_seconds',
    type: 'histogram',
    help: 'How long drains and hand-overs have taken; those that were cancelled are left out.',
    labels: ['command'],
  },
  {
    name: 'pm2_envoy_connections_cut_total',
    type: 'counter',
    help: 'Connections that were open at the end of a drain or hand-over: cut when Envoy is stopped. Idle ones that drain-until requests does not wait for are left out.',
    labels: ['command'],
  },
  {
    name: 'pm2_envoy_reload_failures_total',
    type: 'counter',
    help: 'Reloads of which the new Envoy did not come up: the old one went on serving.',
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
    help: '1 while HTTP/3 and UDP of the newest Envoy are handed over with nothing lost, 0 where a reload loses some; absent without UDP listeners.',
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
    help: '1 while the Envoy in service answers on its admin interface, else 0.',
  },
  {
    name: 'pm2_envoy_failed_starts',
    type: 'gauge',
    help: 'Starts of Envoy that have failed one after the other; 0 while an Envoy serves.',
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
    help: 'How long the Envoy in service has run; absent while it does not answer.',
  },
  {
    name: 'pm2_envoy_admin_calls_total',
    type: 'counter',
    help: 'Calls of the manager on the admin interface of Envoy that have ended, failed ones too.',
    labels: ['call'],
  },
  {
    name: 'pm2_envoy_admin_call_seconds_total',
    type: 'counter',
    help: 'Time that calls on the admin interface took in all.',
    labels: ['call'],
  },
  {
    name: 'pm2_envoy_admin_errors_total',
    type: 'counter',
    help: 'Calls on the admin interface that have failed, by error code.',
    labels: ['call', 'code'],
  },
  {
    name: 'pm2_envoy_refused_requests_total',
    type: 'counter',
    help: 'Requests to the manager that were refused with 403, by what spoke against them.',
    labels: ['reason'],
  },
  {
    name: 'pm2_envoy_hook_failures_total',
    type: 'counter',
    help: 'Hooks that have failed or hung in a drain that the manager led.',
    labels: ['hook'],
  },
  {
    name: 'process_cpu_seconds_total',
    type: 'counter',
    help: 'CPU time that the manager has used.',
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
    help: 'Files that the manager has open; Linux only.',
  },
  {
    name: 'process_max_fds',
    type: 'gauge',
    help: 'Files that the manager may open; Linux only.',
  },
  {
    name: 'nodejs_heap_size_total_bytes',
    type: 'gauge',
    help: 'Size of the JavaScript heap of the manager.',
  },
  {
    name: 'nodejs_heap_size_used_bytes',
    type: 'gauge',
    help: 'What of the JavaScript heap of the manager is in use.',
  },
  {
    name: 'nodejs_version_info',
    type: 'gauge',
    help: 'Always 1; the label is the version of Node that the manager runs on.',
    labels: ['version'],
  },
];
