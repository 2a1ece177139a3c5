import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, it } from 'node:test';
import { makeFolder } from '../support/folder.js';

const DEPLOY = resolve(import.meta.dirname, '../../deploy');
const CLI = resolve(import.meta.dirname, '../../bin/pm2-envoy.js');
/** As `kubectl kustomize` prints it: several documents, keys in alphabetical order. */
const MANIFEST = `apiVersion: v1
kind: Service
metadata:
  name: edge
spec:
  ports:
  - port: 80
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: edge
spec:
  template:
    spec:
      containers:
      - env:
        - name: PM2_ENVOY_PROFILE
          value: container
        - name: PM2_ENVOY_CHECK_DELAY
          value: 15s
        image: registry.example.com/edge:1
        lifecycle:
          preStop:
            exec:
              command:
              - pm2-envoy
              - shutdown
        name: envoy
        ports:
        - containerPort: 8090
          name: manager
        readinessProbe:
          httpGet:
            path: /readyz
            port: manager
          timeoutSeconds: 5
      terminationGracePeriodSeconds: 330
`;

/** Runs the doctor with a manifest on its stdin. */
function doctor(input: string, ...args: readonly string[]) {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [CLI, 'doctor', '--manifest', ...args],
    // The caller's variables are not the container's.
    { input, encoding: 'utf8', env: { ...process.env, PM2_ENVOY_DRAIN_TIMEOUT: '1' } },
  );
  return { code: status, stdout, stderr };
}

describe('pm2-envoy doctor --manifest', () => {
  it('reads stdin, and finds everything well', () => {
    const { code, stdout, stderr } = doctor(MANIFEST, '-');
    assert.match(stdout, /^ok +timers +Deployment edge: a grace period of 5m30s covers/m);
    assert.match(stdout, /^0 problems, 0 warnings$/m);
    assert.doesNotMatch(stdout, /pm2 at|no Envoy runs/, 'it looks at the manifest alone');
    assert.equal(stderr, '');
    assert.equal(code, 0);
  });

  it('fails when the grace period is too short, for people and programs', () => {
    const short = MANIFEST.replace('GracePeriodSeconds: 330', 'GracePeriodSeconds: 60');
    const { code, stdout } = doctor(short, '-');
    assert.match(stdout, /^PROBLEM timers +Deployment edge: a grace period of 1m may end before/m);
    assert.match(stdout, /-> make it at least 5m30s, or drain-timeout at most 45s/);
    assert.equal(code, 1);
    const json = doctor(short, '-', '--json');
    assert.equal(JSON.parse(json.stdout).findings[0].level, 'problem');
    assert.equal(json.code, 1);
    assert.equal(doctor(short, '-', '--drain-timeout', '30s').code, 0);
  });

  it('reads a file, and beside it what the container reads from one', () => {
    const folder = makeFolder();
    try {
      const file = join(folder.path, 'edge.yaml');
      writeFileSync(file, MANIFEST);
      assert.equal(doctor('', file).code, 0);
      const config = join(folder.path, 'pm2-envoy.json');
      writeFileSync(config, '{"drain-timeout": "10m"}');
      const { code, stdout } = doctor('', file, '--config', config);
      assert.match(stdout, /within drain-timeout 10m/);
      assert.equal(code, 1);
    } finally {
      folder.remove();
    }
  });

  it('reads what other platforms are written in, each with a parser that is loaded for it', () => {
    for (const file of ['nomad/pm2-envoy.nomad.hcl', 'fly/fly.toml', 'compose/compose.yaml']) {
      const { code, stdout } = doctor('', resolve(DEPLOY, file), '--grace-period', '2m');
      assert.match(
        stdout,
        /^ok +timers .*a grace period of 2m covers .*\n(.*\n)*0 problems, 0 warn/m,
      );
      assert.equal(code, 0);
    }
  });

  it('says what is wrong with a call', () => {
    for (const [result, code, says] of [
      [
        doctor('', '/nowhere/edge.yaml'),
        78,
        /--manifest: \/nowhere\/edge.yaml can't be read: [^/]*$/,
      ],
      [doctor('a: b: c\n', '-'), 78, /--manifest: it is not valid YAML: .* at line 1, column 4$/m],
      [doctor(MANIFEST, '-', '--grace-period', '1'), 78, /--grace-period: "1" .*did you mean "1s"/],
      [doctor(MANIFEST, '-', '--drain-timeout', '60'), 78, /did you mean "60s"/],
      [doctor(MANIFEST, '-', '--config', '/nowhere'), 78, /configuration file .* can't be read/],
      [doctor(MANIFEST), 2, /option '--manifest <file>' argument missing/],
      [
        doctor(MANIFEST, '-', '--manifst'),
        2,
        /unknown option '--manifst' \(Did you mean --manifest\?\)/,
      ],
    ] as const) {
      assert.match(result.stderr, says);
      assert.equal(result.stdout, '');
      assert.equal(result.code, code);
    }
  });
});
