import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { describe, it } from 'node:test';
import { findContainers } from '../../src/cli/doctor/manifest.js';
import { checkContainers } from '../../src/cli/doctor/rules.js';
import { loadConfig } from '../../src/config/load.js';
import { isPm2EnvoyError } from '../../src/errors.js';

const DEPLOY = resolve(import.meta.dirname, '../../deploy');
const read = (file: string): string => readFileSync(resolve(DEPLOY, file), 'utf8');

/** What the doctor says of a manifest, one line each with its remedy. */
async function look(manifest: string, mostMs?: number): Promise<string[]> {
  const findings = checkContainers(
    await findContainers(manifest),
    (env) => loadConfig({ env }),
    mostMs,
  );
  return findings.map(
    ({ level, topic, message, remedy }) => `${level} ${topic} ${message} -> ${remedy ?? ''}`,
  );
}

/** Files of deploy/, the number of containers, and the grace period of each. */
const FILES = [
  ['compose/compose.yaml', 1, '2m'],
  ['compose/host-network.yaml', 1, '2m'],
  ['compose/front.yaml', 3, '2m'],
  ['compose/swarm.yaml', 1, '2m'],
  ['ecs/task-definition.json', 1, '2m'],
  ['nomad/pm2-envoy.nomad.hcl', 1, '2m'],
  ['cloud-run/service.yaml', 1, '10s'],
  ['fly/fly.toml', 1, '2m'],
  ['azure/containerapp.yaml', 1, '5m30s'],
  ['quadlet/pm2-envoy.container', 1, '2m'],
] as const;

describe('deploy', () => {
  for (const [file, count, grace] of FILES) {
    it(`has a file that the doctor finds nothing wrong with: ${file}`, async () => {
      const lines = await look(read(file), 330_000);
      assert.deepEqual(
        lines.filter((line) => !line.startsWith('ok ')),
        [],
      );
      const timers = lines.filter((line) => line.startsWith('ok timers'));
      assert.equal(timers.length, count);
      for (const line of timers) {
        assert.match(line, new RegExp(`a grace period of ${grace} covers .* · ${grace} SIGKILL`));
      }
    });
  }

  it('has a job that is cut where the clients of Nomad are as they come', async () => {
    const job = read('nomad/pm2-envoy.nomad.hcl');
    assert.match(
      (await look(job)).join('\n'),
      /^warning timers .*max_kill_timeout.*--grace-period/m,
    );
    assert.match(
      (await look(job, 30_000)).join('\n'),
      /^problem timers .*a grace period of 30s may end before .* -> make it at least 2m/m,
    );
  });
});

/** A file of deploy/ with one thing changed, and what the doctor has to say to that. */
const CHANGES: readonly (readonly [string, string, string | RegExp, string, RegExp])[] = [
  [
    'a Compose file without stop_grace_period',
    'compose/compose.yaml',
    '    stop_grace_period: 2m\n',
    '',
    /^problem timers service edge: a grace period of 10s may end before the drain does/m,
  ],
  [
    'a number of seconds in it',
    'compose/compose.yaml',
    'stop_grace_period: 2m',
    'stop_grace_period: 120',
    /^problem manifest .*stop_grace_period is 120, which is not a duration.*"120s"/m,
  ],
  [
    'a variable in it',
    'compose/compose.yaml',
    'stop_grace_period: 2m',
    'stop_grace_period: $' + '{GRACE:-2m}',
    /^warning manifest .*GRACE=2m are assumed -> .*docker compose config/m,
  ],
  [
    'a variable without a default in it',
    'compose/compose.yaml',
    'stop_grace_period: 2m',
    'stop_grace_period: $' + '{GRACE}',
    /^problem manifest .*not a duration/m,
  ],
  [
    'a signal that pm2-runtime does not know',
    'compose/compose.yaml',
    'stop_grace_period: 2m',
    'stop_grace_period: 2m\n    stop_signal: SIGQUIT',
    /^problem signal .*Docker stops it with SIGQUIT/m,
  ],
  [
    'a read-only root with no place to write',
    'compose/compose.yaml',
    '    tmpfs:\n      - /tmp\n',
    '',
    /^problem files .*root is read-only.*\/tmp\/pm2 \(PM2_HOME\) and \/tmp\/pm2-envoy \(PM2_ENVOY_RUN_DIR\)/m,
  ],
  [
    'a health check that says no in a drain',
    'compose/swarm.yaml',
    'test: [CMD, node, /opt/pm2-envoy/healthcheck.js]',
    'test: curl -f localhost:8090/readyz',
    /^problem probes .*healthcheck: \/readyz fails during a drain/m,
  ],
  [
    'npx in place of pm2-runtime',
    'compose/compose.yaml',
    'image: pm2-envoy',
    'image: pm2-envoy\n    command: npx pm2-runtime start ecosystem.config.js',
    /^problem command .*npx exits on SIGTERM/m,
  ],
  [
    'the host’s network with the manager on all addresses',
    'compose/host-network.yaml',
    '      PM2_ENVOY_SERVE_ADDRESS: 127.0.0.1\n',
    '',
    /^warning network .*serve-address 0\.0\.0\.0/m,
  ],
  [
    'settings from a file that it does not have',
    'compose/compose.yaml',
    / {4}environment:\n(.*\n){4}/,
    '    env_file: [edge.env]\n',
    /^warning settings .*what env_file holds is not in the manifest/m,
  ],
  [
    'a stopTimeout that Fargate does not allow',
    'ecs/task-definition.json',
    '"stopTimeout": 120',
    '"stopTimeout": 300',
    /^problem timers .*stopTimeout is 300, more than the 120 s that Fargate allows/m,
  ],
  [
    'a stopTimeout that is not said',
    'ecs/task-definition.json',
    '"stopTimeout": 120,',
    '',
    /^problem timers .*a grace period of 30s may end/m,
  ],
  [
    'a grace-period that is longer than the stopTimeout',
    'ecs/task-definition.json',
    '"value": "120s"',
    '"value": "5m"',
    /^problem timers .*a grace period of 2m may end before/m,
  ],
  [
    'a kill_timeout that is an expression',
    'nomad/pm2-envoy.nomad.hcl',
    '      kill_timeout = "2m"',
    '      kill_timeout = var.grace',
    /^problem manifest .*kill_timeout is "\$\{var\.grace\}", which is not a duration/m,
  ],
  [
    'the 5 s of Nomad',
    'nomad/pm2-envoy.nomad.hcl',
    '      kill_timeout = "2m"',
    '',
    /^problem timers .*a grace period of 5s is over before check-delay 5s is/m,
  ],
  [
    'a check that restarts what drains',
    'nomad/pm2-envoy.nomad.hcl',
    'timeout  = "4s"\n',
    'timeout  = "4s"\n check_restart {\n limit = 3\n }\n',
    /^problem probes .*check ready: \/readyz fails during a drain: Nomad restarts/m,
  ],
  [
    'a check of a port that the group does not have',
    'nomad/pm2-envoy.nomad.hcl',
    'port     = "manager"',
    'port     = "managr"',
    /^problem probes .*check ready: no port of the container has that name/m,
  ],
  [
    'a program that Nomad interrupts',
    'nomad/pm2-envoy.nomad.hcl',
    'kill_signal  = "SIGTERM"',
    'kill_signal  = "SIGKILL"',
    /^problem signal .*Nomad stops it with SIGKILL/m,
  ],
  [
    'a longer drain than Cloud Run waits for',
    'cloud-run/service.yaml',
    '              value: 10s',
    '              value: 2m',
    /^problem timers .*a grace period of 10s is over before check-delay 30s is/m,
  ],
  [
    'a hook that Cloud Run does not have',
    'cloud-run/service.yaml',
    '          startupProbe:',
    '          lifecycle: { preStop: { exec: { command: [pm2-envoy, shutdown] } } }\n          startupProbe:',
    /^problem preStop .*Cloud Run has no lifecycle hooks/m,
  ],
  [
    'the defaults of Fly.io',
    'fly/fly.toml',
    /kill_signal.*\nkill_timeout.*\n/,
    '',
    /^problem timers .*a grace period of 5s is over before check-delay 10s is/m,
  ],
  [
    'more than a shared CPU gets',
    'fly/fly.toml',
    'kill_timeout = 120',
    'kill_timeout = "10m"',
    /^warning timers .*more than 5 minutes/m,
  ],
  [
    'the 30 s of Container Apps',
    'azure/containerapp.yaml',
    '    terminationGracePeriodSeconds: 330\n',
    '',
    /^problem timers .*container app pm2-envoy: a grace period of 30s may end/m,
  ],
  [
    'more than Container Apps allow',
    'azure/containerapp.yaml',
    'terminationGracePeriodSeconds: 330',
    'terminationGracePeriodSeconds: 900',
    /^problem timers .*900 is more than Container Apps allows: 600/m,
  ],
  [
    'a liveness probe of Container Apps on a port of Envoy',
    'azure/containerapp.yaml',
    '              path: /healthz\n              port: 8090',
    '              path: /\n              port: 10000',
    /^problem probes .*livenessProbe: port 10000 fails during a drain: Container Apps restarts/m,
  ],
  [
    'a unit that systemd kills first',
    'quadlet/pm2-envoy.container',
    'TimeoutStopSec=135',
    'TimeoutStopSec=1min 30s',
    /^problem timers .*systemd kills the unit after TimeoutStopSec 90 s, and Podman waits for 120/m,
  ],
  [
    'a unit without StopTimeout',
    'quadlet/pm2-envoy.container',
    'StopTimeout=120\n',
    '',
    /^problem timers .*a grace period of 10s may end before/m,
  ],
  [
    'a StopTimeout that Podman refuses',
    'quadlet/pm2-envoy.container',
    'StopTimeout=120\n',
    'StopTimeout=2m\n',
    /^problem manifest .*StopTimeout is "2m", which is not a whole number of seconds/m,
  ],
  [
    'a unit whose start and stop have one limit',
    'quadlet/pm2-envoy.container',
    'TimeoutStopSec=135',
    'TimeoutSec=100',
    /^problem timers .*systemd kills the unit after TimeoutStopSec 100 s, and Podman waits for 120/m,
  ],
  [
    'a service that may get its grace period from another file',
    'compose/compose.yaml',
    '    stop_grace_period: 2m\n',
    '    extends: { file: common.yaml, service: edge }\n',
    /^warning manifest .*it extends another service, .*\n(?!.*grace period of)/m,
  ],
  [
    'a bootstrap that is mounted as a file',
    'compose/compose.yaml',
    '    restart: unless-stopped\n',
    '    volumes: [./envoy.yaml:/etc/pm2-envoy/envoy.yaml:ro]\n',
    /^warning files .*envoy\.yaml is mounted as one file/m,
  ],
  [
    'a unit for an older Podman',
    'quadlet/pm2-envoy.container',
    'StopTimeout=120\n',
    'PodmanArgs=--stop-timeout=60\n',
    /^problem timers .*a grace period of 1m may end before/m,
  ],
];

describe('checkContainers on any platform', () => {
  for (const [what, file, from, to, says] of CHANGES) {
    it(`finds ${what}`, async () => {
      const text = read(file);
      const changed = text.replace(from, to);
      assert.notEqual(changed, text);
      assert.match((await look(changed)).join('\n'), says);
    });
  }

  it('reads a task definition in CloudFormation, and as it is described', async () => {
    const task = JSON.parse(read('ecs/task-definition.json'));
    const [container] = task.containerDefinitions;
    const Properties = {
      Family: 'edge',
      RequiresCompatibilities: ['FARGATE'],
      ContainerDefinitions: [
        {
          Name: 'envoy',
          StopTimeout: 20,
          Environment: container.environment.map((one: { name: string; value: string }) => ({
            Name: one.name,
            Value: one.value,
          })),
        },
      ],
    };
    const Resources = { Task: { Type: 'AWS::ECS::TaskDefinition', Properties } };
    assert.match(
      (await look(JSON.stringify({ Resources }))).join('\n'),
      /^problem timers edge\/envoy: a grace period of 20s is over before check-delay|^problem timers edge\/envoy: a grace period of 20s may/m,
    );
    const described = JSON.stringify({ taskDefinition: task });
    assert.match(
      (await look(described)).join('\n'),
      /^ok timers pm2-envoy\/envoy: a grace period of 2m/m,
    );
  });

  it('warns of a stopTimeout that only EC2 allows where a task does not say where it runs', async () => {
    const text = read('ecs/task-definition.json')
      .replace('"requiresCompatibilities": ["FARGATE"],', '')
      .replace('"stopTimeout": 120', '"stopTimeout": 300');
    assert.match((await look(text)).join('\n'), /^warning timers .*more than the 120 s/m);
  });

  for (const [language, text] of [
    ['HCL', 'job "edge" {\n  kill = \n}'],
    ['TOML', '[env]\nPM2_ENVOY_GRACE_PERIOD = 2m\n'],
  ] as const) {
    it(`refuses ${language} that is none`, async () => {
      await assert.rejects(
        findContainers(text),
        (error) =>
          isPm2EnvoyError(error, 'config-invalid') &&
          error.message.startsWith(`--manifest: it is not valid ${language}: `),
      );
    });
  }
});
