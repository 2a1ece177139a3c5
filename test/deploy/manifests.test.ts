import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { parse } from 'yaml';
import { envoyBinary } from '../support/envoy.js';
import { makeFolder } from '../support/folder.js';
import {
  doctor,
  type KubernetesObject,
  kustomize,
  objectsOf,
  ROOT,
  VERSIONS,
  validate,
} from '../support/manifests.js';
import { blocksOf } from '../support/pages.js';
import { faultsOf, mountedAt } from '../support/pod-policy.js';

const DEPLOY = join(ROOT, 'deploy/kubernetes');
const BASES = ['deployment', 'daemonset'] as const;
/** Kinds of others, which kubernetes-validate has no schema for. */
const OTHERS = ['ServiceMonitor'];

const page = blocksOf(readFileSync(join(ROOT, 'docs/kubernetes.md'), 'utf8'), 'yaml');
/** What a user's folder holds on docs/kubernetes.md. */
const kustomizations = page.filter((text) => parse(text)?.resources);
const token = page.find((text) => parse(text)?.kind === 'Secret') ?? '';

const folder = makeFolder();
let folders = 0;
after(() => folder.remove());

/** A user's folder with this kustomization, beside which everything is that docs/kubernetes.md names. */
function userFolder(kustomization: string): string {
  folders += 1;
  const path = join(folder.path, String(folders));
  mkdirSync(join(path, 'node_modules'), { recursive: true });
  symlinkSync(ROOT, join(path, 'node_modules/pm2-envoy'));
  cpSync(join(DEPLOY, 'components/pod/envoy.yaml'), join(path, 'envoy.yaml'));
  writeFileSync(join(path, 'token.yaml'), token);
  writeFileSync(join(path, 'kustomization.yaml'), kustomization);
  return path;
}

const built: { name: string; manifest: string }[] = [];
for (const name of BASES) built.push({ name, manifest: await kustomize(join(DEPLOY, name)) });
for (const [index, text] of kustomizations.entries()) {
  const name = `kustomization ${index + 1} of docs/kubernetes.md`;
  built.push({ name, manifest: await kustomize(userFolder(text)) });
}

/** A base with a change, as a user writes it. */
function patched(base: (typeof BASES)[number], kind: string, patch: readonly object[]) {
  const kustomization = {
    resources: [`node_modules/pm2-envoy/deploy/kubernetes/${base}`],
    patches: [{ target: { kind, name: 'pm2-envoy' }, patch: JSON.stringify(patch) }],
  };
  return kustomize(userFolder(JSON.stringify(kustomization)));
}

describe('the manifests', () => {
  it('come from both bases, and from each way of use that the page shows', () => {
    assert.ok(kustomizations.length >= 5, `${kustomizations.length} kustomizations on the page`);
    const components = kustomizations.flatMap((text): string[] => parse(text).components ?? []);
    for (const name of ['pre-stop-http-get', 'service-monitor']) {
      assert.ok(components.some((path) => path.endsWith(`/components/${name}`)));
    }
  });

  it(`are what Kubernetes ${VERSIONS.join(', ')} takes`, async () => {
    const files = built.map(({ manifest }, index) => {
      const file = join(folder.path, `built-${index}.yaml`);
      writeFileSync(file, manifest);
      return file;
    });
    const { code, stdout } = await validate(VERSIONS, files);
    assert.equal(code, 0, stdout);
    const lines = stdout.trim().split('\n');
    const unknown = lines.filter((line) => !line.startsWith('INFO '));
    for (const line of unknown) {
      assert.ok(
        OTHERS.some((kind) => line.includes(`find schema for kind ${kind} `)),
        line,
      );
    }
    const objects = built.flatMap(({ manifest }) => objectsOf(manifest));
    assert.equal(lines.length, objects.length * VERSIONS.length);
  });

  it('would be refused with a field that Kubernetes does not know', async () => {
    const file = join(folder.path, 'unknown.yaml');
    const add = { op: 'add', path: '/spec/template/spec/gracePeriod', value: 1 };
    writeFileSync(file, await patched('deployment', 'Deployment', [add]));
    const { code, stdout } = await validate(VERSIONS, [file]);
    assert.equal(code, 1);
    assert.match(stdout, /'gracePeriod' was unexpected/);
  });

  for (const { name, manifest } of built) {
    it(`leave the doctor nothing to say: ${name}`, async () => {
      const { code, stdout } = await doctor(manifest);
      assert.match(stdout, /^0 problems, 0 warnings$/m, stdout);
      assert.equal(code, 0);
    });
  }

  for (const [what, base, change, says] of [
    [
      'a shorter grace period',
      'deployment',
      { op: 'replace', path: '/spec/template/spec/terminationGracePeriodSeconds', value: 329 },
      /^PROBLEM timers .*grace period of 5m29s.*\n.*make it at least 5m30s/m,
    ],
    [
      'a longer drain',
      'daemonset',
      { op: 'replace', path: '/spec/template/spec/containers/0/env/3/value', value: '301s' },
      /^PROBLEM timers .*drain-timeout 5m1s/m,
    ],
    [
      'probes that go to the address of the node',
      'daemonset',
      { op: 'remove', path: '/spec/template/spec/containers/0/readinessProbe/httpGet/host' },
      /^PROBLEM probes .*readinessProbe: .*serve-address is 127\.0\.0\.1/m,
    ],
  ] as const) {
    it(`fail with ${what}`, async () => {
      const kind = base === 'daemonset' ? 'DaemonSet' : 'Deployment';
      const { code, stdout } = await doctor(await patched(base, kind, [change]));
      assert.match(stdout, says);
      assert.equal(code, 1);
    });
  }
});

describe('every pod', () => {
  const workloads = built.flatMap(({ name, manifest }) =>
    objectsOf(manifest)
      .filter(({ kind }) => kind === 'Deployment' || kind === 'DaemonSet')
      .map((object) => ({ name, object })),
  );

  it('keeps the policy', () => {
    assert.equal(workloads.length, built.length);
    for (const { name, object } of workloads) assert.deepEqual(faultsOf(object), [], name);
  });

  for (const [fault, path] of [
    ['not root', '/securityContext/runAsNonRoot'],
    ['seccomp', '/securityContext/seccompProfile'],
    ['no token of a service account', '/automountServiceAccountToken'],
    ['no service links', '/enableServiceLinks'],
    ['read-only root', '/containers/0/securityContext/readOnlyRootFilesystem'],
    ['no more privileges', '/containers/0/securityContext/allowPrivilegeEscalation'],
    ['no capabilities', '/containers/0/securityContext/capabilities'],
    ['a writable /tmp', '/containers/0/volumeMounts/1'],
    ['the bootstrap', '/containers/0/volumeMounts/0'],
    ['startup', '/containers/0/startupProbe'],
    ['readiness', '/containers/0/readinessProbe'],
    ['liveness', '/containers/0/livenessProbe'],
    ['preStop', '/containers/0/lifecycle'],
    ['memory', '/containers/0/resources/limits'],
    ['cpu', '/containers/0/resources/requests/cpu'],
  ] as const) {
    it(`breaks it without ${fault}`, async () => {
      const remove = { op: 'remove', path: `/spec/template/spec${path}` };
      const manifest = await patched('deployment', 'Deployment', [remove]);
      const [workload] = objectsOf(manifest).filter(({ kind }) => kind === 'Deployment');
      assert.ok(workload);
      assert.deepEqual(faultsOf(workload), [fault]);
    });
  }
});

describe('deploy/kubernetes/components/pod/envoy.yaml', () => {
  it('is a bootstrap that Envoy takes, on the port of the container', () => {
    const file = join(DEPLOY, 'components/pod/envoy.yaml');
    execFileSync(envoyBinary(), ['--mode', 'validate', '-c', file], { stdio: 'pipe' });
    const { port_value: port } = parse(readFileSync(file, 'utf8')).static_resources.listeners[0]
      .address.socket_address;
    for (const name of BASES) {
      const { ports } = one(name, workloadKind(name)).spec.template.spec.containers[0];
      assert.ok(ports.some((at: object) => isSame(at, { name: 'http', containerPort: port })));
    }
  });
});

describe('the Deployment', () => {
  const pod = () => one('deployment', 'Deployment').spec.template;
  const portNames = (): string[] =>
    pod().spec.containers[0].ports.map(({ name }: { name: string }) => name);

  it('has a new pod ready before an old one drains', () => {
    const { strategy, replicas } = one('deployment', 'Deployment').spec;
    assert.deepEqual(strategy.rollingUpdate, { maxUnavailable: 0, maxSurge: 1 });
    assert.ok(replicas >= 2);
  });

  it('is what Service, budget, policy and spread select', () => {
    const { labels } = pod().metadata;
    const selects = (wanted: Record<string, string>): void =>
      assert.deepEqual(labels, { ...labels, ...wanted });
    selects(one('deployment', 'Deployment').spec.selector.matchLabels);
    selects(one('deployment', 'Service').spec.selector);
    selects(one('deployment', 'PodDisruptionBudget').spec.selector.matchLabels);
    selects(one('deployment', 'NetworkPolicy').spec.podSelector.matchLabels);
    const spread = pod().spec.topologySpreadConstraints;
    for (const { labelSelector } of spread) selects(labelSelector.matchLabels);
    assert.deepEqual(
      spread.map(({ topologyKey }: { topologyKey: string }) => topologyKey),
      ['kubernetes.io/hostname', 'topology.kubernetes.io/zone'],
    );
  });

  it('may lose one pod at a time, and a pod that is not ready at any time', () => {
    const { maxUnavailable, unhealthyPodEvictionPolicy } = one(
      'deployment',
      'PodDisruptionBudget',
    ).spec;
    assert.equal(maxUnavailable, 1);
    assert.equal(unhealthyPodEvictionPolicy, 'AlwaysAllow');
  });

  it('opens the traffic port to all, and the port of the manager to no one', () => {
    const { ingress, policyTypes } = one('deployment', 'NetworkPolicy').spec;
    assert.deepEqual(policyTypes, ['Ingress']);
    assert.deepEqual(ingress, [{ ports: [{ port: 'http' }] }]);
    assert.ok(portNames().includes('http'));
    const [port] = one('deployment', 'Service').spec.ports;
    assert.equal(port.targetPort, 'http');
  });
});

describe('the DaemonSet', () => {
  it('drains the old pod first: a port of a node is there once', () => {
    const { spec } = one('daemonset', 'DaemonSet');
    assert.deepEqual(spec.updateStrategy.rollingUpdate, { maxUnavailable: 1, maxSurge: 0 });
    assert.equal(spec.template.spec.hostNetwork, true);
    const selected = spec.selector.matchLabels;
    assert.deepEqual({ ...spec.template.metadata.labels, ...selected }, selected);
  });
});

describe('pre-stop-http-get', () => {
  it('sends the token of the Secret, which the manager reads', () => {
    const { deployment, manifest } = withComponent('pre-stop-http-get');
    const { stringData } = parse(token);
    const { preStop } = deployment.spec.template.spec.containers[0].lifecycle;
    assert.deepEqual(preStop, {
      httpGet: {
        path: '/shutdown',
        port: 'manager',
        httpHeaders: [{ name: 'Authorization', value: `Bearer ${stringData.token}` }],
      },
    });
    const { env } = deployment.spec.template.spec.containers[0];
    const at = env.find(({ name }: { name: string }) => name.endsWith('_SHUTDOWN_TOKEN_FILE'));
    assert.equal(at.value, '/etc/pm2-envoy-token/token');
    const { secret } = mountedAt(deployment.spec.template.spec, '/etc/pm2-envoy-token');
    assert.deepEqual(secret, { secretName: 'pm2-envoy', defaultMode: 0o440 });
    assert.equal(deployment.spec.template.spec.securityContext.fsGroup, 1000);
    assert.equal(manifest.filter(({ kind }) => kind === 'Secret').length, 1);
  });

  it('is not built without the Secret', async () => {
    const text = kustomizations.find((one) => one.includes('token.yaml')) ?? '';
    await assert.rejects(kustomize(userFolder(text.replace('  - token.yaml\n', ''))), /nothing/);
  });
});

describe('service-monitor', () => {
  const { manifest, deployment } = withComponent('service-monitor');
  const named = (kind: string, name: string) =>
    manifest.find((object) => object.kind === kind && object.metadata.name === name) ??
    assert.fail(`no ${kind} ${name}`);
  const service = named('Service', 'pm2-envoy-manager');

  it('has a ServiceMonitor that selects the Service of the manager, and no other', () => {
    // No schema is at hand for it: what Prometheus reads of it is compared by hand.
    const { apiVersion, spec } = Object.assign(
      { apiVersion: '' },
      named('ServiceMonitor', 'pm2-envoy'),
    );
    assert.equal(apiVersion, 'monitoring.coreos.com/v1');
    const selected = manifest.filter(
      ({ kind, metadata }) =>
        kind === 'Service' &&
        isSame({ ...metadata.labels, ...spec.selector.matchLabels }, metadata.labels),
    );
    assert.deepEqual(selected, [service]);
    assert.deepEqual(Object.keys(spec), ['endpoints', 'selector']);
    assert.deepEqual(spec.endpoints, [{ interval: '15s', path: '/metrics', port: 'manager' }]);
    assert.equal(service.spec.ports[0].name, 'manager');
    assert.equal(service.spec.ports[0].targetPort, 'manager');
    assert.equal(service.spec.publishNotReadyAddresses, true, 'a pod that drains is not ready');
  });

  it('opens the port of the manager to the Prometheus of one namespace', () => {
    const { podSelector, ingress } = named('NetworkPolicy', 'pm2-envoy-manager').spec;
    const { labels } = deployment.spec.template.metadata;
    assert.deepEqual({ ...labels, ...podSelector.matchLabels }, labels);
    assert.equal(ingress.length, 1);
    assert.deepEqual(ingress[0].ports, [{ port: 'manager' }]);
    assert.equal(ingress[0].from.length, 1, 'both selectors in one entry: and, not or');
    const [{ namespaceSelector, podSelector: pods }] = ingress[0].from;
    assert.deepEqual(namespaceSelector.matchLabels, {
      'kubernetes.io/metadata.name': 'observability',
    });
    assert.deepEqual(pods.matchLabels, { 'app.kubernetes.io/name': 'prometheus' });
  });
});

/** The object of a kind that a base has once. */
function one(base: (typeof BASES)[number], kind: string): KubernetesObject {
  const { manifest } = built.find(({ name }) => name === base) ?? assert.fail(base);
  const [found, ...more] = objectsOf(manifest).filter((object) => object.kind === kind);
  assert.ok(found, `no ${kind} in ${base}`);
  assert.deepEqual(more, []);
  return found;
}

function workloadKind(base: (typeof BASES)[number]): string {
  return base === 'daemonset' ? 'DaemonSet' : 'Deployment';
}

/** What the kustomization of the page with this component builds. */
function withComponent(name: string) {
  const index = kustomizations.findIndex((text) => text.includes(`components/${name}`));
  const manifest = objectsOf(built[BASES.length + index]?.manifest ?? '');
  const deployment = manifest.find(({ kind }) => kind === 'Deployment');
  return { manifest, deployment: deployment ?? assert.fail('no Deployment') };
}

function isSame(one: unknown, other: unknown): boolean {
  try {
    assert.deepEqual(one, other);
    return true;
  } catch {
    return false;
  }
}
