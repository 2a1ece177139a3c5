import type { Config } from '../../config/config.js';
import { formatDuration } from '../../config/duration.js';
import { longestDrainMs } from '../../config/grace-period.js';
import { LIVE_LIMIT_MS } from '../../pm2/apps.js';
import type { Action, Probe, StoppedContainer } from './container.js';
import { type Finding, ok, problem, warning } from './finding.js';
import { hookOf } from './hook.js';

/** A container and its configuration. */
export interface Described {
  container: StoppedContainer;
  config: Config;
  /** A token is set, or may be, in a place that the manifest does not show. */
  mayHaveToken: boolean;
  /** serve-address may be another one, set by the image or in a place that the manifest does not show. */
  mayServeElsewhere: boolean;
}

type HttpAction = Action & { kind: 'http' };

/** Whether the hook drains: what the platform calls, and whether that gets through (docs/kubernetes.md). */
export function checkPreStop(described: Described): Finding[] {
  const { preStop, platform, ports } = described.container;
  if (!preStop) return [ok('preStop', 'there is none: the signal starts the drain')];
  const { drains, fault } = hookOf(preStop);
  if (fault) {
    return [
      problem(
        'preStop',
        `the hook fails, for ${fault}: the signal comes immediately`,
        'write each word as a separate entry: [pm2-envoy, shutdown]',
      ),
    ];
  }
  if (drains) return [ok('preStop', 'exec drains, and needs no token')];
  if (preStop.kind === 'http' && Number.isNaN(preStop.port)) {
    return [
      problem(
        'preStop',
        `no port of the container has that name: ${platform} calls nothing, and the signal comes immediately`,
        `name one of its ports: ${[...ports.keys()].filter(Boolean).join(', ') || 'there is none'}`,
      ),
    ];
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
  const { container, config } = described;
  const findings = merge(
    container.probes.flatMap((probe) =>
      [checkProbe(described, probe), checkPatience(probe), checkOwnGrace(described, probe)].map(
        (finding) => ({ probe: probe.name, finding }),
      ),
    ),
  );
  // Elsewhere a load balancer has its own check, which is not in the manifest of the container.
  const isPod = /kubelet/.test(container.platform);
  if (!isPod || container.probes.some(({ role }) => role === 'ready')) return findings;
  return [
    ...findings,
    warning(
      'probes',
      'there is no readinessProbe: requests arrive before Envoy is LIVE',
      `httpGet /readyz on port ${config.servePort}, with timeoutSeconds: 5`,
    ),
  ];
}

function checkHook(described: Described, hook: HttpAction): Finding {
  const { container, mayHaveToken } = described;
  if (hook.isHttps) {
    return problem(
      'preStop',
      'the manager does not speak HTTPS: the kubelet then asks by HTTP, without the headers, gets 403, and SIGTERM comes immediately',
      'leave scheme out, or exec `pm2-envoy shutdown`',
    );
  }
  if (container.isHostNetwork && hook.host === undefined) {
    return problem(
      'preStop',
      'with hostNetwork an httpGet without host is never sent (kubernetes#134285): SIGTERM comes immediately',
      'exec `pm2-envoy shutdown`, or host: 127.0.0.1',
    );
  }
  const unreached = checkReach(described, hook);
  if (unreached) return { ...unreached, topic: 'preStop' };
  if (container.isHostNetwork && isLoopback(hook.host)) {
    return ok('preStop', 'httpGet drains: it comes from this host');
  }
  const { authorization } = hook;
  const isBearer = authorization !== undefined && /^Bearer\s+\S/i.test(authorization);
  if (isBearer && mayHaveToken) {
    return ok('preStop', 'httpGet drains if its token is the manager’s');
  }
  const lack = isBearer
    ? 'and no shutdown-token'
    : authorization === undefined
      ? 'without the header Authorization'
      : 'with an Authorization that is not `Bearer TOKEN`';
  return problem(
    'preStop',
    `httpGet ${lack} gets 403, which the kubelet treats as done: SIGTERM comes immediately`,
    'exec `pm2-envoy shutdown`, or set shutdown-token-file and send that token as Authorization: Bearer',
  );
}

function checkProbe(described: Described, { role, action, timeoutSeconds }: Probe) {
  const { config, container } = described;
  const { servePort } = config;
  const isAlive = role === 'alive';
  if (action.kind === 'exec' && isAlive && /\/readyz\b/.test(action.command.join(' '))) {
    return problem(
      'probes',
      `/readyz fails during a drain: ${container.platform} kills the container during the drain`,
      `ask /healthz on port ${servePort}`,
    );
  }
  if (action.kind !== 'http' && action.kind !== 'port') return undefined;
  if (Number.isNaN(action.port)) {
    return problem('probes', 'no port of the container has that name', 'name one of its ports');
  }
  // The manager's port is open for as long as the manager lives.
  if (action.kind === 'port' && action.port === servePort) return undefined;
  const isManager = isOfManager(action, described);
  if (isManager && action.isHttps) {
    return problem(
      'probes',
      `the manager does not speak HTTPS: ${isAlive ? 'the container is restarted again and again' : 'it never becomes ready'}`,
      'leave scheme out, or set HTTP',
    );
  }
  if (isAlive && !(isManager && action.path === '/healthz')) {
    const asked = isManager ? action.path : `port ${action.port}`;
    return problem(
      'probes',
      `${asked} fails during a drain: ${container.platform} restarts the container during the drain`,
      `httpGet /healthz on port ${servePort}`,
    );
  }
  if (!isManager) return undefined;
  const unreached = checkReach(described, action);
  if (unreached) return unreached;
  if (!['/readyz', '/healthz'].includes(action.path)) {
    return problem(
      'probes',
      `the manager does not answer a probe at ${action.path}: the container never becomes ready`,
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

/** A generation is LIVE within this time, or never. */
function checkPatience({ role, patienceMs }: Probe): Finding | undefined {
  if (role !== 'startup' || patienceMs >= LIVE_LIMIT_MS) return undefined;
  return warning(
    'probes',
    `it gives up after ${formatDuration(patienceMs)}, and an Envoy may take ${formatDuration(LIVE_LIMIT_MS)} to be LIVE: the container is restarted again and again`,
    `periodSeconds: 1 and failureThreshold: ${LIVE_LIMIT_MS / 1_000}`,
  );
}

/** A probe that ends the container may cut what a deletion does not. */
function checkOwnGrace({ config, container }: Described, probe: Probe): Finding | undefined {
  const { gracePeriodMs, role } = probe;
  if (gracePeriodMs === undefined) return undefined;
  const remedy = 'leave it out: the grace period of the pod applies';
  if (role === 'ready') {
    return problem('probes', 'Kubernetes refuses terminationGracePeriodSeconds here', remedy);
  }
  if (Number.isNaN(gracePeriodMs) || longestDrainMs(gracePeriodMs) < config.drainTimeoutMs) {
    const shown = Number.isNaN(gracePeriodMs) ? 'no number' : formatDuration(gracePeriodMs);
    return problem(
      'probes',
      `its own terminationGracePeriodSeconds is ${shown}: when it ends the container, ${container.platform} cuts a drain of ${formatDuration(config.drainTimeoutMs)}`,
      remedy,
    );
  }
  return undefined;
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
  const { container, config, mayServeElsewhere } = described;
  const { serveAddress } = config;
  if (isLoopback(host) && !container.isHostNetwork) {
    return problem('probes', `host ${host} is the node, not the pod`, 'leave host out');
  }
  if (!isLoopback(serveAddress) || isLoopback(host)) return undefined;
  const [make, unless] = mayServeElsewhere
    ? [warning, ', unless the image sets another one']
    : [problem, ''];
  return make(
    'probes',
    `${container.platform} calls the container’s own address, and serve-address is ${serveAddress}${unless}`,
    container.isHostNetwork
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
