import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { parse } from 'yaml';
import { makeFolder } from '../support/folder.js';
import { doctor, kustomize, objectsOf, ROOT, VERSIONS, validate } from '../support/manifests.js';
import { blocksOf } from '../support/pages.js';

const page = readFileSync(join(ROOT, 'docs/from-contour.md'), 'utf8');
const folder = makeFolder();
after(() => folder.remove());

describe('the diff of Contour’s DaemonSet', () => {
  const [diff = ''] = blocksOf(page, 'diff');
  /** One side of it: what stays, and what has this sign. */
  const side = (sign: '-' | '+') =>
    daemonSet(
      diff
        .split('\n')
        .filter((line) => line.startsWith(' ') || line.startsWith(sign))
        .map((line) => line.slice(1))
        .join('\n'),
    );

  it('begins with Envoy and the sidecar, and ends with Envoy alone', () => {
    const names = (sign: '-' | '+'): string[] =>
      side(sign).spec.template.spec.containers.map(({ name }: { name: string }) => name);
    assert.deepEqual(names('-'), ['shutdown-manager', 'envoy']);
    assert.deepEqual(names('+'), ['envoy']);
  });

  it('leads to what Kubernetes takes, and the doctor has nothing to say about', async () => {
    const manifest = JSON.stringify(side('+'));
    const file = join(folder.path, 'contour.json');
    writeFileSync(file, manifest);
    const { code, stdout } = await validate(VERSIONS, [file]);
    assert.equal(code, 0, stdout);
    assert.doesNotMatch(stdout, /WARN/);
    assert.match((await doctor(manifest)).stdout, /^0 problems, 0 warnings$/m);
  });
});

describe('the patch for Envoy Gateway', () => {
  const text = blocksOf(page, 'yaml').find((block) => parse(block)?.kind === 'EnvoyProxy') ?? '';
  const patch = parse(text).spec.provider.kubernetes.envoyDaemonSet.patch.value;
  const args = [
    ...['--service-cluster', 'default/eg', '--service-node', '$(ENVOY_POD_NAME)'],
    ...['--config-yaml', 'admin:\n  address: "x"\n', '--log-level', 'warn', '--cpuset-threads'],
    ...['--component-log-level', 'upstream:debug,http:warn', '--drain-time-s', '60'],
  ];
  /** What Envoy Gateway v1.9.0 makes, in short. */
  const gateways = daemonSet(
    JSON.stringify({
      spec: {
        template: {
          spec: {
            terminationGracePeriodSeconds: 360,
            containers: [
              {
                name: 'envoy',
                image: 'docker.io/envoyproxy/envoy:distroless-v1.39.0',
                command: ['envoy'],
                args,
                ports: [{ name: 'readiness', containerPort: 19003 }],
                readinessProbe: {
                  httpGet: { path: '/ready', port: 19003, scheme: 'HTTP' },
                  timeoutSeconds: 1,
                },
                livenessProbe: { httpGet: { path: '/ready', port: 19003, scheme: 'HTTP' } },
                lifecycle: { preStop: { httpGet: { path: '/shutdown/ready', port: 19002 } } },
                volumeMounts: [{ name: 'certs', mountPath: '/certs', readOnly: true }],
              },
              { name: 'shutdown-manager', image: 'docker.io/envoyproxy/gateway:v1.9.0' },
            ],
            volumes: [{ name: 'certs', secret: { secretName: 'envoy' } }],
          },
        },
      },
    }),
  );

  /** The DaemonSet as Envoy Gateway patches it. */
  const patched = (): Promise<string> => {
    const name = { name: 'envoy' };
    const file = { ...patch, apiVersion: 'apps/v1', kind: 'DaemonSet', metadata: name };
    writeFileSync(join(folder.path, 'daemonset.json'), JSON.stringify(gateways));
    writeFileSync(join(folder.path, 'patch.json'), JSON.stringify(file));
    const kustomization = { resources: ['daemonset.json'], patches: [{ path: 'patch.json' }] };
    writeFileSync(join(folder.path, 'kustomization.yaml'), JSON.stringify(kustomization));
    return kustomize(folder.path);
  };

  it('drops the sidecar, and leaves the doctor nothing to say', async () => {
    const manifest = await patched();
    const [{ spec } = assert.fail()] = objectsOf(manifest);
    const [envoy, ...others] = spec.template.spec.containers;
    assert.deepEqual(others, []);
    assert.deepEqual(envoy.args, args);
    assert.deepEqual(Object.keys(envoy.lifecycle.preStop), ['exec']);
    const file = join(folder.path, 'gateway.yaml');
    writeFileSync(file, manifest);
    const { code, stdout } = await validate(VERSIONS, [file]);
    assert.equal(code, 0, stdout);
    assert.match((await doctor(manifest)).stdout, /^0 problems, 0 warnings$/m);
  });

  it('hands over the bootstrap as a file, and all other arguments as they are', () => {
    const [, , script, name] = patch.spec.template.spec.containers[1].command;
    const bootstrap = join(folder.path, 'envoy.yaml');
    const tini = join(folder.path, 'tini');
    writeFileSync(tini, '#!/bin/sh\nprintf "%s" "$PM2_ENVOY_ENVOY_ARGS"\n', { mode: 0o755 });
    const at = script.replace('/tmp/envoy.yaml', bootstrap);
    const env = { PATH: `${folder.path}:${process.env['PATH']}` };
    const said = execFileSync('sh', ['-ec', at, name, ...args], { env, encoding: 'utf8' });
    assert.deepEqual(JSON.parse(said), [
      ...args.slice(0, 4),
      ...['--log-level', 'warn', '--cpuset-threads'],
      ...['--component-log-level', 'upstream:debug,http:warn'],
    ]);
    assert.equal(readFileSync(bootstrap, 'utf8'), args[5]);
  });
});

/** A whole DaemonSet around a specification. */
function daemonSet(text: string) {
  const { spec } = parse(text);
  const labels = { app: 'envoy' };
  return {
    apiVersion: 'apps/v1',
    kind: 'DaemonSet',
    metadata: { name: 'envoy' },
    spec: {
      selector: { matchLabels: labels },
      template: { metadata: { labels }, spec: spec.template.spec },
    },
  };
}
