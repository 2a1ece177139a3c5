import { httpTo, listener } from './bootstrap.js';

const V3 = 'type.googleapis.com/envoy.extensions';
/** What the hosts' Envoys listen on. */
export const HOST_PORT = 10_000;
/** Where they say whether they want traffic. */
const HEALTH_PATH = '/healthz';
/** As the clients of test/support/traffic.ts expect it. */
const SLOW = { path: '/slow', delay: '2s', body: 'slow and whole' };

/** A host's bootstrap: `/` answers `body`, `/slow` takes its time, `/healthz` follows Envoy's own health. */
export function hostBootstrap(body: string, address = '0.0.0.0'): object {
  const http_filters = [
    filter('health_check', 'HealthCheck', {
      pass_through_mode: false,
      headers: [{ name: ':path', string_match: { exact: HEALTH_PATH } }],
    }),
    filter('fault', 'HTTPFault', {}),
    filter('router', 'Router', {}),
  ];
  const routes = [
    {
      match: { prefix: SLOW.path },
      direct_response: answer(SLOW.body),
      typed_per_filter_config: { 'envoy.filters.http.fault': lateBy(SLOW.delay) },
    },
    { match: { prefix: '/' }, direct_response: answer(body) },
  ];
  const hcm = {
    access_log: [],
    http_filters,
    route_config: { virtual_hosts: [{ name: 'all', domains: ['*'], routes }] },
  };
  return {
    // The playbook's own words: it is a template.
    node: { id: '{{ inventory_hostname }}', cluster: 'edge' },
    static_resources: { listeners: [listener('web', HOST_PORT, httpTo('', { hcm }), address)] },
  };
}

/** The balancer's: it never tries again, and asks each host 5 times a second whether it wants traffic. */
export function frontBootstrap(port: number, addresses: readonly string[]): object {
  const endpoints = addresses.map((address) => ({
    endpoint: { address: { socket_address: { address, port_value: HOST_PORT } } },
  }));
  const hosts = {
    name: 'hosts',
    type: 'STATIC',
    connect_timeout: '2s',
    load_assignment: { cluster_name: 'hosts', endpoints: [{ lb_endpoints: endpoints }] },
    // A host that has failed its check gets nothing, whatever becomes of the others.
    common_lb_config: { healthy_panic_threshold: { value: 0 } },
    health_checks: [
      {
        timeout: '2s',
        interval: '0.2s',
        no_traffic_interval: '0.2s',
        unhealthy_threshold: 2,
        healthy_threshold: 1,
        http_health_check: { path: HEALTH_PATH },
      },
    ],
    typed_extension_protocol_options: {
      'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
        '@type': `${V3}.upstreams.http.v3.HttpProtocolOptions`,
        // It closes idle connections before a host does; and opens new ones all the time.
        common_http_protocol_options: { idle_timeout: '1s', max_requests_per_connection: 20 },
        explicit_http_config: { http_protocol_options: {} },
      },
    },
  };
  return {
    static_resources: {
      listeners: [listener('front', port, httpTo('hosts', { hcm: { access_log: [] } }))],
      clusters: [hosts],
    },
  };
}

function filter(name: string, message: string, config: object): object {
  const type = `${V3}.filters.http.${name}.v3.${message}`;
  return { name: `envoy.filters.http.${name}`, typed_config: { '@type': type, ...config } };
}

function lateBy(fixed_delay: string): object {
  const percentage = { numerator: 100 };
  return { '@type': `${V3}.filters.http.fault.v3.HTTPFault`, delay: { fixed_delay, percentage } };
}

function answer(inline_string: string): object {
  return { status: 200, body: { inline_string } };
}
