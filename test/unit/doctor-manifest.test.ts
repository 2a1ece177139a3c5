import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { findContainers } from '../../src/cli/doctor/manifest.js';
import { checkContainers } from '../../src/cli/doctor/rules.js';
import { loadConfig } from '../../src/config/load.js';
import { isPm2EnvoyError } from '../../src/errors.js';

/** A container that nothing is wrong with. */
const CONTAINER = {
  name: 'envoy',
  env: [
    { name: 'PM2_ENVOY_PROFILE', value: 'container' },
    { name: 'PM2_ENVOY_CHECK_DELAY', value: '15s' },
  ],
  ports: [{ name: 'manager', containerPort: 8090 }],
  lifecycle: { preStop: { exec: { command: ['pm2-envoy', 'shutdown'] } } },
  readinessProbe: { httpGet: { path: '/readyz', port: 'manager' }, timeoutSeconds: 5 },
  livenessProbe: { httpGet: { path: '/healthz', port: 8090 }, timeoutSeconds: 5 },
};
const TOKEN = [{ name: 'Authorization', value: 'Bearer TOKEN' }];
const hook = (httpGet: object) => ({ lifecycle: { preStop: { httpGet } } });
const toManager = { path: '/shutdown', port: 'manager' };
/** hostNetwork as it should be, but for what `more` changes. */
const LOOPBACK = {
  env: [{ name: 'PM2_ENVOY_SERVE_ADDRESS', value: '127.0.0.1' }],
  readinessProbe: {
    httpGet: { host: '127.0.0.1', path: '/readyz', port: 'manager' },
    timeoutSeconds: 5,
  },
  livenessProbe: { httpGet: { host: '127.0.0.1', path: '/healthz', port: 8090 } },
};

interface Changes {
  container?: object;
  pod?: object;
  flags?: Record<string, string>;
  configFile?: string;
}

/** What is found in a Deployment with these changes, one line each, and all of it as text. */
async function look({ container, pod, ...call }: Changes = {}) {
  const spec = {
    terminationGracePeriodSeconds: 330,
    ...pod,
    containers: [{ ...CONTAINER, ...container }],
  };
  const manifest = { kind: 'Deployment', metadata: { name: 'edge' }, spec: { template: { spec } } };
  const findings = checkContainers(await findContainers(JSON.stringify(manifest)), (env) =>
    loadConfig({ ...call, env }),
  );
  const lines = findings.map(({ level, topic, message }) => `${level} ${topic} ${message}`);
  const text = findings.map(({ message, remedy }) => `${message} -> ${remedy ?? ''}`).join('\n');
  return { lines, text, levels: findings.map(({ level }) => level) };
}

describe('findContainers', () => {
  const pod = { containers: [CONTAINER] };
  const named = { metadata: { name: 'edge' } };
  for (const [what, manifest, where] of [
    ['a Pod', { kind: 'Pod', ...named, spec: pod }, 'Pod edge'],
    [
      'a DaemonSet',
      { kind: 'DaemonSet', ...named, spec: { template: { spec: pod } } },
      'DaemonSet edge',
    ],
    ['a List', { kind: 'List', items: [{ kind: 'Pod', ...named, spec: pod }] }, 'Pod edge'],
    ['a part of a manifest', { spec: pod }, 'the manifest'],
  ] as const) {
    it(`finds ${what}`, async () => {
      assert.deepEqual(
        (await findContainers(JSON.stringify(manifest))).map((one) => one.where),
        [where],
      );
    });
  }

  it('reads many documents, and passes over pods without pm2-envoy', async () => {
    const other = { kind: 'Pod', spec: { containers: [{ name: 'app', image: 'nginx' }] } };
    const manifest = [other, { kind: 'Pod', ...named, spec: pod }, { kind: 'Service' }, null]
      .map((one) => JSON.stringify(one))
      .join('\n---\n');
    assert.equal((await findContainers(manifest)).length, 1);
  });

  for (const [what, container] of [
    ['a variable', { env: [{ name: 'PM2_ENVOY_SERVE_PORT', value: '1' }] }],
    ['its command', { args: ['pm2-runtime', 'start', 'ecosystem.config.js'] }],
    ['its preStop', { lifecycle: CONTAINER.lifecycle }],
    ['its image', { image: 'registry.example.com/pm2-envoy:1' }],
  ] as const) {
    it(`knows a container by ${what}`, async () => {
      assert.equal((await findContainers(JSON.stringify({ containers: [container] }))).length, 1);
    });
  }

  it('knows a sidecar, and passes over an init container that ends', async () => {
    const pod = { containers: [], initContainers: [{ ...CONTAINER, restartPolicy: 'Always' }] };
    assert.equal((await findContainers(JSON.stringify(pod))).length, 1);
    assert.equal(
      (await findContainers(JSON.stringify({ ...pod, initContainers: [CONTAINER] }))).length,
      0,
    );
  });

  it('takes merge keys, as kubectl does', async () => {
    const [found] = await findContainers(
      [
        'x-pod: &pod { terminationGracePeriodSeconds: 330 }',
        'x-envoy: &envoy { env: [{ name: PM2_ENVOY_CHECK_DELAY, value: 15s }] }',
        'spec:',
        '  <<: *pod',
        '  containers:',
        '    - <<: *envoy',
        '      name: envoy',
      ].join('\n'),
    );
    assert.equal(found?.gracePeriodMs, 330_000);
    assert.equal(found?.variables.get('PM2_ENVOY_CHECK_DELAY'), '15s');
  });

  it('reads a number in quotes as that number', async () => {
    const [found] = await findContainers(
      JSON.stringify({ terminationGracePeriodSeconds: '330', containers: [CONTAINER] }),
    );
    assert.equal(found?.gracePeriodMs, 330_000);
  });

  it('takes what Kubernetes takes where a manifest says nothing', async () => {
    const [found] = await findContainers(
      JSON.stringify({
        containers: [{ lifecycle: CONTAINER.lifecycle, readinessProbe: { httpGet: { port: 1 } } }],
      }),
    );
    assert.equal(found?.gracePeriodMs, 30_000);
    assert.equal(found?.probes[0]?.timeoutSeconds, 1);
  });

  for (const [what, text, says] of [
    ['broken YAML', 'a: b: c\n', /is not valid YAML: .* at line 1, column 4$/],
    ['a template', 'a: {{ .Values.x }}\n- b', /helm template/],
    ['a bomb of aliases', bomb(), /is not valid YAML: Excessive alias count/],
  ] as const) {
    it(`refuses ${what}`, async () => {
      await assert.rejects(
        findContainers(text),
        (error: unknown) => isPm2EnvoyError(error, 'config-invalid') && says.test(error.message),
      );
    });
  }
});

describe('checkContainers', () => {
  it('finds nothing wrong with what docs/kubernetes.md says', async () => {
    const { lines } = await look();
    assert.equal(lines.length, 2);
    assert.match(lines[0] ?? '', /^ok timers Deployment edge: a grace period of 5m30s covers/);
    assert.match(lines[1] ?? '', /^ok preStop Deployment edge: exec drains/);
  });

  it('says that there is nothing to check', async () => {
    assert.deepEqual(
      checkContainers([], () => loadConfig({ env: {} })).map(({ level }) => level),
      ['problem'],
    );
  });

  for (const [seconds, says] of [
    [329, /5m29s may end before the drain does .* -> make it at least 5m30s/],
    [15, /15s is over before check-delay 15s is/],
    [undefined, /a grace period of 30s may end before/],
  ] as const) {
    it(`has a problem with a grace period of ${seconds} s`, async () => {
      const { levels, text } = await look({ pod: { terminationGracePeriodSeconds: seconds } });
      assert.equal(levels[0], 'problem');
      assert.match(text, says);
    });
  }

  it('measures the grace period against the drain-timeout of the container', async () => {
    const env = [...CONTAINER.env, { name: 'PM2_ENVOY_DRAIN_TIMEOUT', value: '40s' }];
    const pod = { terminationGracePeriodSeconds: 70 };
    assert.equal((await look({ container: { env }, pod })).levels[0], 'ok');
    assert.equal((await look({ pod })).levels[0], 'problem');
    assert.equal((await look({ pod, flags: { 'drain-timeout': '40s' } })).levels[0], 'ok');
  });

  it('names the settings that the container would end with', async () => {
    const env = [
      { name: 'PM2_ENVOY_CHECK_DELAY', value: '15' },
      { name: 'PM2_ENVOY_DRAIN_TIMEOU', value: '1m' },
    ];
    const { lines } = await look({ container: { env } });
    assert.equal(lines.length, 2);
    assert.match(lines.join('\n'), /^problem settings .*did you mean PM2_ENVOY_DRAIN_TIMEOUT/m);
    assert.match(lines.join('\n'), /^problem settings .*did you mean "15s"/m);
  });

  it('asks for the profile that only the image has', async () => {
    const { text, levels } = await look({
      container: { env: [{ name: 'PM2_ENVOY_PROFILE', value: 'edge' }] },
    });
    assert.match(text, /"edge" is not a profile.* -> run the doctor in the directory/);
    assert.deepEqual(levels, ['problem']);
  });

  it('warns of an envoy-drain-time that cuts websockets', async () => {
    const env = [...CONTAINER.env, { name: 'PM2_ENVOY_ENVOY_DRAIN_TIME', value: '1m' }];
    assert.match((await look({ container: { env } })).text, /active websockets too, from 40s on/);
  });

  for (const [what, container] of [
    [
      'a variable from elsewhere',
      { env: [{ name: 'PM2_ENVOY_DRAIN_TIMEOUT', valueFrom: { configMapKeyRef: {} } }] },
    ],
    ['another variable', { env: [{ name: 'PM2_ENVOY_DRAIN_TIMEOUT', value: '$(DRAIN)' }] }],
    ['envFrom', { envFrom: [{ configMapRef: { name: 'x' } }] }],
    ['a file', { env: [{ name: 'PM2_ENVOY_CONFIG', value: '/etc/pm2-envoy/pm2-envoy.json' }] }],
  ] as const) {
    it(`warns of times that come by ${what}`, async () => {
      const { text } = await look({ container });
      assert.match(text, /is not in the manifest: check-delay .* drain-timeout 5m are assumed/);
      const flags = { 'check-delay': '15s', 'drain-timeout': '5m' };
      assert.doesNotMatch((await look({ container, flags })).text, /assumed/);
    });
  }

  it('need no other variable that the manifest does not show', async () => {
    const env = [
      ...CONTAINER.env,
      { name: 'PM2_ENVOY_ENVOY_ARGS', value: '--service-node,$(POD)' },
    ];
    assert.doesNotMatch((await look({ container: { env } })).text, /assumed/);
  });

  it('does not look for a token on this machine', async () => {
    const env = [
      ...CONTAINER.env,
      { name: 'PM2_ENVOY_SHUTDOWN_TOKEN_FILE', value: '/nowhere/token' },
    ];
    assert.deepEqual((await look({ container: { env } })).levels, ['ok', 'ok']);
  });
});

describe('checkContainers of preStop', () => {
  const token = [
    ...CONTAINER.env,
    { name: 'PM2_ENVOY_SHUTDOWN_TOKEN_FILE', value: '/etc/pm2-envoy-token/token' },
  ];
  for (const [what, changes, says] of [
    ['no hook', { container: { lifecycle: {} } }, /^ok preStop .*the signal starts the drain/m],
    [
      'a sleep',
      { container: { lifecycle: { preStop: { sleep: { seconds: 5 } } } } },
      /^warning preStop .*does not drain/m,
    ],
    [
      'exec of something else',
      { container: { lifecycle: { preStop: { exec: { command: ['sleep', '5'] } } } } },
      /^warning preStop .*does not drain/m,
    ],
    [
      'a call of something else',
      { container: hook({ path: '/shutdown', port: 9901 }) },
      /^warning preStop .*does not drain/m,
    ],
    [
      'exec by a shell',
      {
        container: {
          lifecycle: { preStop: { exec: { command: ['sh', '-c', 'pm2-envoy shutdown --json'] } } },
        },
      },
      /^ok preStop .*exec drains/m,
    ],
    [
      'httpGet with a token',
      { container: { env: token, ...hook({ ...toManager, httpHeaders: TOKEN }) } },
      /^ok preStop/m,
    ],
    [
      'httpGet without the header',
      { container: { env: token, ...hook(toManager) } },
      /^problem preStop .*without the header Authorization gets 403/m,
    ],
    [
      'httpGet with a token that nobody knows',
      { container: hook({ ...toManager, httpHeaders: TOKEN }) },
      /^problem preStop .*and no shutdown-token gets 403/m,
    ],
    [
      'httpGet to the loopback of the node',
      { container: hook({ ...toManager, host: '127.0.0.1' }) },
      /^problem preStop .*host 127\.0\.0\.1 is the node, not the pod/m,
    ],
    [
      'httpGet to a server on loopback',
      {
        container: {
          ...LOOPBACK,
          env: [...LOOPBACK.env, ...token.slice(1)],
          ...hook({ ...toManager, httpHeaders: TOKEN }),
        },
      },
      /^problem preStop .*serve-address is 127\.0\.0\.1/m,
    ],
    [
      'httpGet without host under hostNetwork',
      { pod: { hostNetwork: true }, container: { ...LOOPBACK, ...hook(toManager) } },
      /^problem preStop .*never sent \(kubernetes#134285\)/m,
    ],
    [
      'httpGet with host under hostNetwork',
      {
        pod: { hostNetwork: true },
        container: { ...LOOPBACK, ...hook({ ...toManager, host: '127.0.0.1' }) },
      },
      /^ok preStop .*comes from this host/m,
    ],
  ] as const) {
    it(`knows what ${what} does`, async () => {
      assert.match((await look(changes)).lines.join('\n'), says);
    });
  }
});

describe('checkContainers of probes', () => {
  const probe = (httpGet: object, more: object = { timeoutSeconds: 5 }) => ({ httpGet, ...more });
  for (const [what, changes, says] of [
    [
      'a liveness probe on a port of Envoy',
      { container: { livenessProbe: { tcpSocket: { port: 10_000 } } } },
      /^problem probes .*livenessProbe: port 10000 fails during a drain/m,
    ],
    [
      'a liveness probe on /readyz',
      { container: { livenessProbe: probe({ path: '/readyz', port: 8090 }) } },
      /^problem probes .*livenessProbe: \/readyz fails during a drain/m,
    ],
    [
      'a second for /readyz',
      { container: { readinessProbe: probe({ path: '/readyz', port: 'manager' }, {}) } },
      /^warning probes .*readinessProbe: it asks Envoy and waits 1 s/m,
    ],
    [
      'no readiness probe',
      { container: { readinessProbe: undefined } },
      /^warning probes .*there is no readinessProbe/m,
    ],
    [
      'a server on loopback, once for all probes',
      {
        container: { ...CONTAINER, env: [{ name: 'PM2_ENVOY_SERVE_ADDRESS', value: '127.0.0.1' }] },
      },
      /^problem probes .*readinessProbe, livenessProbe: .*serve-address is 127\.0\.0\.1$/m,
    ],
    [
      'a profile that may be the image’s',
      { container: { env: [] } },
      /^warning probes .*serve-address is 127\.0\.0\.1, unless the image sets another one/m,
    ],
    [
      'a profile that is not in the manifest',
      { container: { env: [{ name: 'PM2_ENVOY_PROFILE', valueFrom: {} }] } },
      /^warning probes .*serve-address is 127\.0\.0\.1, unless the image sets another one/m,
    ],
    [
      'a port that the container has not',
      { container: { readinessProbe: probe({ path: '/readyz', port: 'managr' }) } },
      /^problem probes .*readinessProbe: no port of the container has that name/m,
    ],
    [
      'hostNetwork without host',
      { pod: { hostNetwork: true }, container: { env: LOOPBACK.env } },
      /^problem probes .*readinessProbe, livenessProbe/m,
    ],
  ] as const) {
    it(`finds ${what}`, async () => {
      assert.match((await look(changes)).lines.join('\n'), says);
    });
  }

  it('finds nothing wrong with a liveness probe that opens the manager’s port', async () => {
    const { levels } = await look({
      container: { livenessProbe: { tcpSocket: { port: 'manager' } } },
    });
    assert.deepEqual(levels, ['ok', 'ok']);
  });

  it('finds nothing wrong with hostNetwork and host', async () => {
    const { levels } = await look({ pod: { hostNetwork: true }, container: LOOPBACK });
    assert.deepEqual(levels, ['ok', 'ok']);
  });
});

describe('checkContainers of the rest', () => {
  it('warns of a manager that the whole network reaches', async () => {
    assert.match(
      (await look({ pod: { hostNetwork: true } })).lines.join('\n'),
      /^warning network .*serve-address 0\.0\.0\.0/m,
    );
  });

  for (const command of [
    ['npx', 'pm2-runtime', 'start', 'ecosystem.config.js'],
    ['tini', '--', '/usr/local/bin/npm', 'start'],
    ['sh', '-c', 'cd /app && NODE_ENV=production exec npx pm2-runtime start x.js'],
  ]) {
    it(`has a problem with ${command.join(' ')}`, async () => {
      assert.match(
        (await look({ container: { command } })).lines.join('\n'),
        /^problem command .*SIGTERM/m,
      );
    });
  }

  for (const command of [
    ['pm2-runtime', 'start', '/app/npm/x.js'],
    ['sh', '-c', 'npm ci; exec pm2-runtime start x.js'],
  ]) {
    it(`has none with ${command.join(' ')}`, async () => {
      assert.doesNotMatch(
        (await look({ container: { command } })).text,
        /^(problem|warning) command/m,
      );
    });
  }

  it('counts a sleep into the grace period that it asks for', async () => {
    const command = ['sh', '-c', 'sleep 40; pm2-envoy shutdown'];
    const { text } = await look({ container: { lifecycle: { preStop: { exec: { command } } } } });
    assert.match(
      text,
      /-> make the whole grace period at least 6m10s, or drain-timeout at most 4m20s/,
    );
    const pod = { terminationGracePeriodSeconds: 370 };
    const enough = await look({
      pod,
      container: { lifecycle: { preStop: { exec: { command } } } },
    });
    assert.deepEqual(new Set(enough.levels), new Set(['ok']));
  });

  it('recognizes a template without quotes', async () => {
    const manifest = `kind: Pod
metadata: { name: edge }
spec:
  terminationGracePeriodSeconds: {{ .Values.grace }}
  containers: [{ image: pm2-envoy }]
`;
    const findings = checkContainers(await findContainers(manifest), (env) => loadConfig({ env }));
    assert.match(
      findings.map(({ message, remedy }) => `${message} -> ${remedy}`).join('\n'),
      /it is a template that was not rendered.* -> .*\n.*terminationGracePeriodSeconds is .* -> pass what is applied/,
    );
  });

  for (const [level, command] of [
    ['problem', ['envoy', '-c', '/config/envoy.json']],
    ['problem', ['pm2', 'start', 'x.js']],
    ['problem', ['sleep', 'infinity']],
    ['warning', ['/entrypoint.sh']],
  ] as const) {
    it(`has a ${level} with ${command.join(' ')}, which takes the place of pm2-runtime`, async () => {
      const { lines } = await look({ container: { command } });
      assert.match(lines.join('\n'), new RegExp(`^${level} command .*pm2-runtime`, 'm'));
    });
  }

  it('has a problem with a probe at a path of the manager that is none', async () => {
    const readinessProbe = { httpGet: { path: '/ready', port: 8090 }, timeoutSeconds: 5 };
    const { lines } = await look({ container: { readinessProbe } });
    assert.match(
      lines.join('\n'),
      /^problem probes .*at \/ready: the container never becomes ready/m,
    );
  });
});

function bomb(): string {
  const lines = Array.from({ length: 9 }, (_, index) => {
    const inner = index === 0 ? 'x' : Array.from({ length: 9 }, () => `*a${index - 1}`).join(',');
    return `a${index}: &a${index} [${inner}]`;
  });
  return `${lines.join('\n')}\n`;
}

describe('checkContainers, of what a real kubelet does not do', () => {
  const exec = (...command: string[]) => ({ lifecycle: { preStop: { exec: { command } } } });
  const https = { scheme: 'HTTPS' };
  const readOnly = { securityContext: { readOnlyRootFilesystem: true } };
  const mounted = (mount: object, volume: object) => ({
    container: {
      env: [
        ...CONTAINER.env,
        { name: 'PM2_ENVOY_ENVOY_CONFIG', value: '/etc/pm2-envoy/envoy.yaml' },
      ],
      volumeMounts: [{ name: 'bootstrap', mountPath: '/etc/pm2-envoy', ...mount }],
    },
    pod: { volumes: [{ name: 'bootstrap', ...volume }] },
  });
  const withToken = [...CONTAINER.env, { name: 'PM2_ENVOY_SHUTDOWN_TOKEN', valueFrom: {} }];
  for (const [what, changes, says] of [
    [
      'a probe by HTTPS',
      {
        container: {
          readinessProbe: { httpGet: { ...https, path: '/readyz', port: 8090 }, timeoutSeconds: 5 },
        },
      },
      /^problem probes .*readinessProbe: the manager does not speak HTTPS: it never becomes ready/m,
    ],
    [
      'a liveness probe by HTTPS',
      { container: { livenessProbe: { httpGet: { ...https, path: '/healthz', port: 8090 } } } },
      /^problem probes .*livenessProbe: .*HTTPS: the container is restarted again and again/m,
    ],
    [
      'a hook by HTTPS',
      {
        container: { env: withToken, ...hook({ ...toManager, ...https, httpHeaders: TOKEN }) },
      },
      /^problem preStop .*does not speak HTTPS: the kubelet then asks by HTTP, without the headers/m,
    ],
    [
      'a root that can’t be written, with nothing at /tmp',
      { container: readOnly },
      /^problem files .*read-only, and nothing that can be written is mounted for/m,
    ],
    [
      'a root that can’t be written, with a ConfigMap at /tmp',
      {
        container: { ...readOnly, volumeMounts: [{ name: 'x', mountPath: '/tmp' }] },
        pod: { volumes: [{ name: 'x', configMap: { name: 'x' } }] },
      },
      /^problem files .*read-only/m,
    ],
    [
      'a hook that is one text',
      { container: exec('pm2-envoy shutdown') },
      /^problem preStop .*there is no program "pm2-envoy shutdown": the signal comes immediately/m,
    ],
    [
      'a sleep before the drain',
      { container: exec('sh', '-c', 'sleep 40; pm2-envoy shutdown') },
      /^problem timers .*the hook sleeps 40s of the grace period of 5m30s; of the rest: a grace period of 4m50s may end/m,
    ],
    [
      'a sleep in minutes in place of the drain',
      { container: exec('/bin/sleep', '2m') },
      /^problem timers .*the hook sleeps 2m of the grace period of 5m30s; of the rest/m,
    ],
    [
      'a sleep of Kubernetes’ own',
      { container: { lifecycle: { preStop: { sleep: { seconds: 60 } } } } },
      /^problem timers .*the hook sleeps 1m of the grace period/m,
    ],
    [
      'a sleep that takes it all',
      { container: exec('sleep', '60'), pod: { terminationGracePeriodSeconds: 60 } },
      /^problem timers .*the hook sleeps 1m of the grace period of 1m: nothing is left/m,
    ],
    [
      'a sleep of a variable',
      { container: exec('sh', '-c', 'sleep $DELAY && pm2-envoy shutdown') },
      /^warning timers .*sleeps for a time that can’t be read/m,
    ],
    [
      'a hook to a port that the container has not',
      { container: { env: withToken, ...hook({ path: '/shutdown', port: 'managr' }) } },
      /^problem preStop .*no port of the container has that name: the kubelet calls nothing/m,
    ],
    [
      'a grace period with a unit',
      { pod: { terminationGracePeriodSeconds: '330s' } },
      /^problem manifest .*terminationGracePeriodSeconds is "330s", which is not a whole number/m,
    ],
    [
      'a grace period that Helm fills in',
      { pod: { terminationGracePeriodSeconds: '{{ .Values.grace }}' } },
      /^problem manifest .*a template that was not rendered/m,
    ],
    [
      'a variable that Helm fills in',
      { container: { env: [{ name: 'PM2_ENVOY_CHECK_DELAY', value: '{{ .Values.delay }}' }] } },
      /^problem manifest .*a template that was not rendered/m,
    ],
    [
      'a liveness probe with a grace period of its own',
      {
        container: {
          livenessProbe: { ...CONTAINER.livenessProbe, terminationGracePeriodSeconds: 5 },
        },
      },
      /^problem probes .*livenessProbe: its own terminationGracePeriodSeconds is 5s/m,
    ],
    [
      'a readiness probe with one, which Kubernetes refuses',
      {
        container: {
          readinessProbe: { ...CONTAINER.readinessProbe, terminationGracePeriodSeconds: 5 },
        },
      },
      /^problem probes .*readinessProbe: Kubernetes refuses/m,
    ],
    [
      'a startup probe that gives up before Envoy does',
      { container: { startupProbe: CONTAINER.readinessProbe } },
      /^warning probes .*startupProbe: it gives up after 30s, and an Envoy may take 1m/m,
    ],
    [
      'a time of a probe that is none',
      { container: { readinessProbe: { ...CONTAINER.readinessProbe, timeoutSeconds: '5s' } } },
      /^problem manifest .*readinessProbe\.timeoutSeconds is "5s"/m,
    ],
    [
      'an Authorization without Bearer',
      {
        container: {
          env: withToken,
          ...hook({ ...toManager, httpHeaders: [{ name: 'Authorization', value: 'TOKEN' }] }),
        },
      },
      /^problem preStop .*with an Authorization that is not `Bearer TOKEN` gets 403/m,
    ],
    [
      'a bootstrap that is mounted as a file',
      mounted({ subPath: 'envoy.yaml', mountPath: '/etc/pm2-envoy/envoy.yaml' }, { configMap: {} }),
      /^warning files .*envoy\.yaml is mounted as one file \(subPath,/m,
    ],
    [
      'a bootstrap that is mounted as a file where the image has its own',
      {
        container: {
          volumeMounts: [
            { name: 'x', mountPath: '/etc/pm2-envoy/envoy.yaml', subPath: 'envoy.yaml' },
          ],
        },
        pod: { volumes: [{ name: 'x', configMap: { name: 'x' } }] },
      },
      /^warning files .*envoy\.yaml is mounted as one file \(subPath,/m,
    ],
    [
      'a delay of a probe that is none',
      { container: { startupProbe: { ...CONTAINER.readinessProbe, initialDelaySeconds: '5s' } } },
      /^problem manifest .*startupProbe\.initialDelaySeconds is "5s"/m,
    ],
    [
      'a bootstrap that is not mounted',
      mounted({ mountPath: '/etc/envoy' }, { configMap: {} }),
      /^warning files .*nothing is mounted at \/etc\/pm2-envoy\/envoy.yaml/m,
    ],
    [
      'a volume that is not there',
      mounted({ name: 'other' }, { configMap: {} }),
      /^warning manifest .*a volume other is mounted that the pod does not have/m,
    ],
    [
      'a signal of its own',
      { container: { lifecycle: { ...CONTAINER.lifecycle, stopSignal: 'SIGUSR1' } } },
      /^problem signal .*the kubelet stops it with SIGUSR1/m,
    ],
    [
      'another program under pm2-runtime',
      { container: { command: ['tini', '--', 'pm2-runtime', 'start', 'app.js'] } },
      /^problem command .*pm2-runtime runs another program, not the apps/m,
    ],
    [
      'a hook with a command that is no list',
      { container: { lifecycle: { preStop: { exec: { command: 'pm2-envoy shutdown' } } } } },
      /^problem manifest .*exec\.command is not a list/m,
    ],
  ] as const) {
    it(`finds ${what}`, async () => {
      assert.match((await look(changes)).lines.join('\n'), says);
    });
  }

  for (const [what, changes] of [
    [
      'a root that can’t be written, with a volume at /tmp',
      {
        container: { ...readOnly, volumeMounts: [{ name: 'tmp', mountPath: '/tmp' }] },
        pod: { volumes: [{ name: 'tmp', emptyDir: {} }] },
      },
    ],
    ['a bootstrap that is mounted', mounted({}, { configMap: {} })],
    ['SIGINT', { container: { lifecycle: { ...CONTAINER.lifecycle, stopSignal: 'SIGINT' } } }],
    [
      'a startup probe that waits for Envoy',
      {
        container: {
          startupProbe: { ...CONTAINER.readinessProbe, periodSeconds: 1, failureThreshold: 60 },
        },
      },
    ],
  ] as const) {
    it(`finds nothing wrong with ${what}`, async () => {
      assert.deepEqual((await look(changes)).levels, ['ok', 'ok']);
    });
  }

  it('passes over other programs under pm2-runtime', async () => {
    const manifest = JSON.stringify({ containers: [{ command: ['pm2-runtime', 'app.js'] }] });
    assert.deepEqual(await findContainers(manifest), []);
  });

  it('knows the cap that the caller names', async () => {
    const manifest = JSON.stringify({
      terminationGracePeriodSeconds: 330,
      containers: [CONTAINER],
    });
    const findings = checkContainers(
      await findContainers(manifest),
      (env) => loadConfig({ env }),
      25_000,
    );
    assert.match(String(findings[0]?.message), /a grace period of 25s may end/);
  });
});
