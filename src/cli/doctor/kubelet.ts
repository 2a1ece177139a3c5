import type { Config } from '../../config/config.js';
import { type Finding, ok, problem, warning } from './finding.js';
import type { Action, EnvoyPod, Probe } from './manifest.js';

/** A pod and the configuration of its container. */
export interface Described {
  pod: EnvoyPod;
  config: Config;
  /** A token is set, or may be, in a place that the manifest does not show. */
  mayHaveToken: boolean;
  /** serve-address may be another one, set by the image or in a place that the manifest does not show. */
  mayServeElsewhere: boolean;
}

type HttpAction = Action & { kind: 'http' };

/** Whether the preStop hook drains: what the kubelet calls, and whether that gets through (docs/kubernetes.md). */
export function checkPreStop(described: Described): Finding[] {
  const { preStop } = described.pod;
  if (!preStop) return [ok('preStop', 'there is none: SIGTERM begins the drain')];
  if (preStop.kind === 'exec' && /\bpm2-envoy\b.* shutdown\b/.test(preStop.command.join(' '))) {
    return [ok('preStop', 'exec drains, and needs no token')];
  }
  if (isOfManager(preStop, described) && preStop.path === '/shutdown') {
    return [checkHook(described, preStop)];
  }
  return [
    warning(
      'preStop',
      'it does not drain: SIGTERM after it does, with what is left of the grace period',
      'exec `pm2-envoy shutdown`; check-delay is the wait for load balancers',
    ),
  ];
}

/** Whether the probes ask what answers as they mean it. */
export function checkProbes(described: Described): Finding[] {
  const { pod, config } = described;
  const findings = merge(
    pod.probes.map((probe) => ({ probe: probe.name, finding: checkProbe(described, probe) })),
  );
  if (pod.probes.some(({ name }) => name === 'readinessProbe')) return findings;
  return [
    ...findings,
    warning(
      'probes',
      'there is no readinessProbe: requests come before Envoy is LIVE',
      `httpGet /readyz on port ${config.servePort}, with timeoutSeconds: 5`,
    ),
  ];
}

function checkHook(described: Described, hook: HttpAction): Finding {
  const { pod, mayHaveToken } = described;
  if (pod.isHostNetwork && hook.host === undefined) {
    return problem(
      'preStop',
      'with hostNetwork an httpGet without host is never sent (kubernetes#134285): SIGTERM comes at once',
      'exec `pm2-envoy shutdown`, or host: 127.0.0.1',
    );
  }
  const unreached = checkReach(described, hook);
  if (unreached) return { ...unreached, topic: 'preStop' };
  if (pod.isHostNetwork && isLoopback(hook.host)) {
    return ok('preStop', 'httpGet drains: it comes from this host');
  }
  if (hook.hasAuthorization && mayHaveToken) {
    return ok('preStop', 'httpGet drains if its token is the manager’s');
  }
  const lack = hook.hasAuthorization ? 'and no shutdown-token' : 'without the header Authorization';
  return problem(
    'preStop',
    `httpGet ${lack} gets 403, which the kubelet takes for done: SIGTERM comes at once`,
    'exec `pm2-envoy shutdown`, or set shutdown-token-file and send that token as Authorization: Bearer',
  );
}

function checkProbe(described: Described, { name, action, timeoutSeconds }: Probe) {
  if (action.kind !== 'http' && action.kind !== 'port') return undefined;
  const { servePort } = described.config;
  if (Number.isNaN(action.port)) {
    return problem('probes', 'no port of the container has that name', 'name one of its ports');
  }
  // The manager's port is open for as long as the manager lives.
  if (action.kind === 'port' && action.port === servePort) return undefined;
  const isManager = isOfManager(action, described);
  if (name === 'livenessProbe' && !(isManager && action.path === '/healthz')) {
    const asked = isManager ? action.path : `port ${action.port}`;
    return problem(
      'probes',
      `${asked} says no during a drain: the kubelet restarts the container in the middle of it`,
      `httpGet /healthz on port ${servePort}`,
    );
  }
  if (!isManager) return undefined;
  const unreached = checkReach(described, action);
  if (unreached) return unreached;
  if (!['/readyz', '/healthz'].includes(action.path)) {
    return problem(
      'probes',
      `the manager does not answer a probe at ${action.path}: the pod never gets ready`,
      '/readyz, with timeoutSeconds: 5',
    );
  }
  if (action.path !== '/readyz' || timeoutSeconds > 1) return undefined;
  return warning(
    'probes',
    'it asks Envoy and waits 1 s: a busy Envoy may take longer',
    'timeoutSeconds: 5',
  );
}

/** What the same is wrong with is one finding. */
function merge(found: readonly { probe: string; finding: Finding | undefined }[]): Finding[] {
  const merged = new Map<string, { probes: string[]; finding: Finding }>();
  for (const { probe, finding } of found) {
    if (!finding) continue;
    const one = merged.get(finding.message) ?? { probes: [], finding };
    one.probes.push(probe);
    merged.set(finding.message, one);
  }
  return [...merged.values()].map(({ probes, finding }) => ({
    ...finding,
    message: `${probes.join(', ')}: ${finding.message}`,
  }));
}

/** What keeps the kubelet from the manager; undefined: nothing. */
function checkReach(described: Described, { host }: HttpAction): Finding | undefined {
  const { pod, config, mayServeElsewhere } = described;
  const { serveAddress } = config;
  if (isLoopback(host) && !pod.isHostNetwork) {
    return problem('probes', `host ${host} is the node, not the pod`, 'leave host out');
  }
  if (!isLoopback(serveAddress) || isLoopback(host)) return undefined;
  const [make, unless] = mayServeElsewhere
    ? [warning, ', unless the image sets another one']
    : [problem, ''];
  return make(
    'probes',
    `the kubelet calls the pod’s address, and serve-address is ${serveAddress}${unless}`,
    pod.isHostNetwork
      ? `host: ${serveAddress}`
      : 'set PM2_ENVOY_PROFILE to container, or serve-address to 0.0.0.0',
  );
}

function isOfManager(action: Action, { config }: Described): action is HttpAction {
  return action.kind === 'http' && action.port === config.servePort;
}

function isLoopback(address: string | undefined): boolean {
  return address !== undefined && /^(127\.|::1$|localhost$)/.test(address);
}
