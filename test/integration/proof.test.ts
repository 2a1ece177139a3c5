import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { portInUse } from '../../src/envoy/port-in-use.js';
import { isPm2EnvoyError } from '../../src/errors.js';
import { acceptRemovals } from '../../src/host/acceptance.js';
import { isAlive } from '../../src/host/process-identity.js';
import { request } from '../support/clients.js';
import {
  fromFile,
  fromNobody,
  ldsAnswer,
  oldestAndNewest,
  type TestGenerations,
  webListener,
  withGenerations,
} from '../support/two-generations.js';
import { eventually } from '../support/wait.js';

const CLUSTER = 'type.googleapis.com/envoy.config.cluster.v3.Cluster';
const ROUTES = 'type.googleapis.com/envoy.config.route.v3.RouteConfiguration';
const ENDPOINTS = 'type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment';
const SECRET = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret';
const TLS = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext';

/** What goes wrong after the first generation has begun to serve, and what the second one's error names. */
const VARIANTS: {
  what: string;
  begin(stage: TestGenerations): void;
  spoil(stage: TestGenerations): void;
  says(stage: TestGenerations): RegExp;
}[] = [
  {
    what: 'the LDS file got a mistake',
    begin: (stage) => lds(stage, [webListener('web', port(stage))]),
    spoil: ({ write }) => write('lds.json', '{"resources": [{"@type": "nonsense"}]}'),
    says: (stage) =>
      new RegExp(
        `127\\.0\\.0\\.1:${port(stage)} \\(listener web\\): LDS: its source can’t be reached or read; listeners \\(LDS\\): .*Envoy said: Filesystem config update failure: .*nonsense`,
      ),
  },
  {
    what: 'the LDS file names one listener only',
    begin: (stage) =>
      lds(stage, [webListener('web', port(stage)), webListener('b', port(stage, 1))]),
    spoil: (stage) => lds(stage, [webListener('b', port(stage, 1))]),
    says: (stage) =>
      new RegExp(
        `127\\.0\\.0\\.1:${port(stage)} \\(listener web\\): LDS no longer has it, .*redeploy --yes`,
      ),
  },
  {
    what: 'one of two listeners is bad',
    begin: (stage) =>
      lds(stage, [webListener('web', port(stage)), webListener('b', port(stage, 1))]),
    spoil: (stage) =>
      lds(stage, [
        webListener('web', port(stage), { filter_chains: [] }),
        webListener('b', port(stage, 1)),
      ]),
    says: (stage) =>
      new RegExp(`127\\.0\\.0\\.1:${port(stage)} \\(listener web\\): .*no filter chains`),
  },
  {
    what: 'its LDS server (gRPC) is away',
    begin: (stage) => lds(stage, [webListener('web', port(stage))]),
    spoil: (stage) => stage.bootstrap([], { lds_config: fromNobody('GRPC') }),
    says: (stage) =>
      new RegExp(
        `127\\.0\\.0\\.1:${port(stage)} \\(listener web\\): LDS: nothing came within initial_fetch_timeout`,
      ),
  },
  {
    what: 'the CDS server is away',
    begin: (stage) => {
      const path = stage.write('cds.json', { resources: [{ '@type': CLUSTER, name: 'more' }] });
      stage.bootstrap([webListener('web', port(stage))], { cds_config: fromFile(path) });
    },
    spoil: (stage) =>
      stage.bootstrap([webListener('web', port(stage))], { cds_config: fromNobody('REST') }),
    says: () => /clusters \(CDS\): nothing came within initial_fetch_timeout/,
  },
  {
    what: 'the RDS file got a mistake',
    begin: (stage) => {
      stage.write('rds.json', { resources: [routes()] });
      rds(stage);
    },
    spoil: ({ write }) => write('rds.json', '{"resources": [{"@type": "nonsense"}]}'),
    says: () => /routes r1 \(RDS\): its source can’t be reached or read/,
  },
  {
    what: 'the SDS file is empty',
    begin: (stage) => {
      stage.write('sds.json', { resources: [secret(stage)] });
      sds(stage);
    },
    spoil: ({ write }) => write('sds.json', { resources: [] }),
    says: () => /secret cert \(SDS\): what came was rejected/,
  },
  {
    what: 'the RDS file is empty: an answer, and no routes',
    begin: (stage) => {
      stage.write('rds.json', { resources: [routes()] });
      rds(stage);
    },
    spoil: ({ write }) => write('rds.json', { resources: [] }),
    says: () => /routes r1 \(RDS\): its source has not sent it/,
  },
  {
    what: 'the EDS file is empty: an answer, and no endpoints',
    begin: eds,
    spoil: ({ write }) => write('eds.json', { resources: [] }),
    says: () => /endpoints of cluster app: it has none, and the one in service has some/,
  },
  {
    what: 'all stats are hidden, and the LDS file got a mistake',
    begin: (stage) => {
      stage.hideStats();
      lds(stage, [webListener('web', port(stage)), webListener('b', port(stage, 1))]);
    },
    spoil: ({ write }) => write('lds.json', '{"resources": [{"@type": "nonsense"}]}'),
    says: (stage) =>
      new RegExp(`127\\.0\\.0\\.1:${port(stage)} \\(listener web\\): LDS did not send it`),
  },
  {
    what: 'all stats are hidden, and the RDS file got a mistake',
    begin: (stage) => {
      stage.hideStats();
      stage.write('rds.json', { resources: [routes()] });
      rds(stage);
    },
    spoil: ({ write }) => write('rds.json', '{"resources": [{"@type": "nonsense"}]}'),
    says: () => /routes r1 \(RDS\): its source has not sent it/,
  },
  {
    what: 'all stats are hidden, and the SDS file is empty',
    begin: (stage) => {
      stage.hideStats();
      stage.write('sds.json', { resources: [secret(stage)] });
      sds(stage);
    },
    spoil: ({ write }) => write('sds.json', { resources: [] }),
    says: () => /secret cert \(SDS\): its source has not sent it/,
  },
  {
    what: 'all stats are hidden, and the EDS file got a mistake',
    begin: (stage) => {
      stage.hideStats();
      eds(stage);
    },
    spoil: ({ write }) => write('eds.json', '{"resources": [{'),
    says: () => /endpoints of cluster app: it has none, and the one in service has some/,
  },
];

describe('startGeneration, beside one in service', { concurrency: 2 }, () => {
  for (const { version, binary } of oldestAndNewest()) {
    describe(`A new generation of Envoy ${version}`, { concurrency: 4 }, () => {
      for (const { what, begin, spoil, says } of VARIANTS) {
        it(`does not take over when ${what}, and the old one goes on`, () =>
          withGenerations(binary, async (stage) => {
            begin(stage);
            const first = await stage.start();
            spoil(stage);
            await rejects(stage.start(), says(stage));
            const [only, ...more] = stage.generations.live();
            assert.deepEqual([only?.number, more], [first.number, []]);
            if (!what.includes('SDS')) assert.equal((await request(port(stage))).status, 200);
          }));
      }

      it('is given up before it is LIVE when a server is away with the default timeout: 0 lost', () =>
        withGenerations(binary, async (stage) => {
          const path = stage.write('cds.json', { resources: [{ '@type': CLUSTER, name: 'more' }] });
          stage.bootstrap([webListener('web', port(stage))], { cds_config: fromFile(path) });
          await stage.start();
          const away = fromNobody('GRPC', { initial_fetch_timeout: '15s' });
          stage.bootstrap([webListener('web', port(stage))], { cds_config: away });
          let isOver = false;
          const load = (async () => {
            while (!isOver) assert.equal((await request(port(stage))).status, 200);
          })();
          await rejects(
            stage.start(),
            /clusters \(CDS\): (its source can’t be reached or read|nothing came within)/,
          );
          isOver = true;
          await load;
        }));

      it('is given up before it is LIVE when what came is rejected, and another source is waited for: 0 lost', () =>
        withGenerations(binary, async (stage) => {
          stage.write('rds.json', { resources: [routes()] });
          rds(stage);
          await stage.start();
          const { virtual_hosts: hosts, ...more } = routes();
          // Two virtual hosts for the same domain.
          const twice = { ...more, virtual_hosts: [...hosts, { ...hosts[0], name: 'again' }] };
          stage.write('rds.json', { resources: [twice] });
          const away = fromNobody('GRPC', { initial_fetch_timeout: '50s' });
          rds(stage, [rdsListener('slow', port(stage, 1), { route: 'r2', source: away })]);
          let isOver = false;
          const load = (async () => {
            while (!isOver) assert.equal((await request(port(stage))).status, 200);
          })();
          await rejects(
            stage.start(),
            /^generation 2 lacks .*: routes r1 \(RDS\): what came was rejected/,
          );
          isOver = true;
          await load;
        }));

      it('takes over when it serves the same, and when the bootstrap has other listeners', () =>
        withGenerations(binary, async (stage) => {
          lds(stage, [webListener('web', port(stage))], [webListener('static', port(stage, 1))]);
          await stage.start();
          await stage.start();
          lds(stage, [webListener('web', port(stage))], [webListener('moved', port(stage, 2))]);
          const { number } = await stage.start();
          assert.equal(number, 3);
          assert.match(
            stage.log.of('warn').join('\n'),
            /generation 3 lacks .* \(listener static\): the new bootstrap does not have it any more/,
          );
          lds(stage, [], [webListener('moved', port(stage, 2))]);
          await rejects(stage.start(), /\(listener web\): LDS no longer has it/);
          const before = stage.generations.newest() ?? assert.fail();
          acceptRemovals(before);
          assert.equal((await stage.start()).number, 5);
        }));

      it('is not in the way of the next one when its runner died before it took over', () =>
        withGenerations(binary, async (stage) => {
          stage.bootstrap([webListener('web', port(stage))]);
          const first = await stage.start();
          const second = await stage.start();
          const runner = { pid: first.envoy.pid, startTime: 'another life' };
          stage.generations.write({ ...second, ready: false, runner });
          const third = await stage.start();
          assert.deepEqual(
            stage.generations.live().map(({ number }) => number),
            [first.number, third.number],
          );
          assert.equal((await request(port(stage))).status, 200);
        }));

      it('is the first one of a host even with nothing received, and says so', () =>
        withGenerations(binary, async (stage) => {
          stage.bootstrap([], { lds_config: fromNobody('REST') });
          await stage.start();
          assert.match(
            stage.log.of('warn').join('\n'),
            /generation 1 lacks listeners \(LDS\): nothing came within initial_fetch_timeout/,
          );
        }));

      it('says of a listener of LDS that has lost enable_reuse_port since what to do, and not to end Envoy', () =>
        withGenerations(binary, async (stage) => {
          lds(stage, [webListener('web', port(stage)), webListener('more', port(stage, 2))]);
          await stage.start();
          const alone = webListener('more', port(stage, 2), { enable_reuse_port: false });
          lds(stage, [webListener('web', port(stage)), alone]);
          const error = await stage.start().then(
            () => assert.fail('it started'),
            (fault: Error) => fault.message,
          );
          assert.match(
            error,
            /\(listener more\): it has enable_reuse_port: false, .*stop and start/,
          );
          assert.equal(portInUse(error), undefined);
          assert.equal((await request(port(stage, 2))).status, 200);
        }));

      it('is not started beside a listener that no second Envoy can open', () =>
        withGenerations(binary, async (stage) => {
          lds(stage, [webListener('web', port(stage), { enable_reuse_port: false })]);
          await stage.start();
          await rejects(
            stage.start(),
            /listener web was opened on 127\.0\.0\.1:\d+ with enable_reuse_port: false, so no other Envoy can listen there while generation 1 does/,
            'listener-not-redeployable',
          );
          const abstract = { address: { pipe: { path: `@${stage.folder}` } } };
          stage.bootstrap([webListener('abstract', 0, abstract)]);
          for (const { envoy } of stage.generations.live()) process.kill(envoy.pid);
          await eventually('none to be left', () => stage.generations.live().length === 0);
          await stage.start();
          await rejects(
            stage.start(),
            /listener abstract listens on the abstract socket @/,
            'listener-not-redeployable',
          );
          stage.bootstrap([webListener('web', port(stage))]);
          const { envoy } = await stage.start();
          assert.ok(isAlive(envoy));
        }));
    });
  }
});

function port({ ports }: TestGenerations, index = 0): number {
  return ports[index] ?? assert.fail();
}

async function rejects(
  call: Promise<unknown>,
  says: RegExp,
  code: 'generation-incomplete' | 'listener-not-redeployable' = 'generation-incomplete',
): Promise<void> {
  await assert.rejects(call, (error: unknown) => {
    assert.ok(isPm2EnvoyError(error, code), String(error));
    assert.match(error.message, says);
    return true;
  });
}

function lds(stage: TestGenerations, dynamic: object[], fixed: object[] = []): void {
  const path = stage.write('lds.json', ldsAnswer(dynamic));
  stage.bootstrap(fixed, { lds_config: fromFile(path) });
}

function routes() {
  const respond = { match: { prefix: '/' }, direct_response: { status: 200 } };
  return {
    '@type': ROUTES,
    name: 'r1',
    virtual_hosts: [{ name: 'all', domains: ['*'], routes: [respond] }],
  };
}

function rds(stage: TestGenerations, more: readonly object[] = []): void {
  const source = fromFile(join(stage.folder, 'rds.json'));
  stage.bootstrap([rdsListener('web', port(stage), { route: 'r1', source }), ...more]);
}

function rdsListener(
  name: string,
  at: number,
  { route, source }: { route: string; source: object },
): object {
  const rds = { route_config_name: route, config_source: source };
  return webListener(name, at, {}, { route_config: undefined, rds });
}

function eds(stage: TestGenerations): void {
  const address = { socket_address: { address: '127.0.0.1', port_value: port(stage, 2) } };
  const endpoints = [{ lb_endpoints: [{ endpoint: { address } }] }];
  const path = stage.write('eds.json', {
    resources: [{ '@type': ENDPOINTS, cluster_name: 'app', endpoints }],
  });
  const app = { name: 'app', type: 'EDS', eds_cluster_config: { eds_config: fromFile(path) } };
  stage.bootstrap([webListener('web', port(stage))], undefined, [app]);
}

function secret({ folder }: TestGenerations) {
  const [key, certificate] = [join(folder, 'key.pem'), join(folder, 'cert.pem')];
  const args = ['-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=localhost'];
  execFileSync('openssl', ['req', '-x509', ...args, '-keyout', key, '-out', certificate], {
    stdio: 'ignore',
  });
  return {
    '@type': SECRET,
    name: 'cert',
    tls_certificate: {
      certificate_chain: { filename: certificate },
      private_key: { filename: key },
    },
  };
}

function sds(stage: TestGenerations): void {
  const path = join(stage.folder, 'sds.json');
  const config = { name: 'cert', sds_config: fromFile(path) };
  const tls = {
    name: 'tls',
    typed_config: {
      '@type': TLS,
      common_tls_context: { tls_certificate_sds_secret_configs: [config] },
    },
  };
  const web = webListener('web', port(stage)) as { filter_chains?: object[] };
  const [chain] = web.filter_chains ?? [];
  stage.bootstrap([{ ...web, filter_chains: [{ ...chain, transport_socket: tls }] }]);
}
