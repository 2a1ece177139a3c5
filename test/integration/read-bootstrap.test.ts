import assert from 'node:assert/strict';
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { describe, it } from 'node:test';
import { readBootstrap } from '../../src/envoy/read-bootstrap.js';
import { isPm2EnvoyError } from '../../src/errors.js';
import type { BootstrapAdmin } from '../../src/host/bootstrap-admin.js';
import { envoyBinary } from '../support/envoy.js';
import { makeFolder } from '../support/folder.js';

const TCP = { host: '127.0.0.1', port: 9901, ipv6Only: true };
const SOCKET = 'socket_address: {address: 127.0.0.1, port_value: 9901}';
/** Bootstrap.admin.address.socket_address, in protobuf's wire format. */
const PB = Buffer.concat([
  Buffer.from([0x62, 18, 0x1a, 16, 0x0a, 14, 0x12, 9]),
  Buffer.from('127.0.0.1'),
  Buffer.from([0x18, 0xad, 0x4d]),
]);

const FORMS: readonly {
  what: string;
  text: string | Buffer;
  file?: string;
  address: BootstrapAdmin['address'];
}[] = [
  { what: 'YAML', text: `admin: {address: {${SOCKET}}}`, address: TCP },
  {
    what: 'JSON',
    file: 'a.json',
    text: '{"admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 9901}}}}',
    address: TCP,
  },
  {
    what: 'keys in camelCase',
    text: 'admin: {address: {socketAddress: {address: 127.0.0.1, portValue: 9901}}}',
    address: TCP,
  },
  {
    what: 'both families on one port',
    text: 'admin: {address: {socket_address: {address: "::", port_value: 1, ipv4_compat: true}}}',
    address: { host: '::', port: 1, ipv6Only: false },
  },
  {
    what: 'a mode in octal, as YAML 1.1 has it',
    text: 'admin: {address: {pipe: {path: /run/a.sock, mode: 0600}}}',
    address: { path: '/run/a.sock', mode: 0o600 },
  },
  {
    what: 'a mode in decimal',
    text: 'admin: {address: {pipe: {path: "/run/ä \\"b\\".sock", mode: 432}}}',
    address: { path: '/run/ä "b".sock', mode: 0o660 },
  },
  {
    what: 'an abstract socket',
    text: 'admin: {address: {pipe: {path: "@admin"}}}',
    address: { path: '@admin', mode: undefined },
  },
  {
    what: 'an anchor, used 150 times elsewhere too',
    text: `layered_runtime: {layers: [{name: x, static_layer: {a: &a {address: 127.0.0.1, port_value: 9901}, ${Array.from({ length: 150 }, (_, at) => `k${at}: *a`).join(', ')}}}]}\nadmin: {address: {socket_address: *a}}`,
    address: TCP,
  },
  {
    what: 'another key twice',
    text: `node: {id: a, cluster: b}\nadmin: {address: {${SOCKET}}}\nlayered_runtime: {layers: [{name: x, static_layer: {a: 1, a: 2}}]}`,
    address: TCP,
  },
  {
    what: '.pb_text',
    file: 'a.pb_text',
    text: 'admin { address { socket_address { address: "127.0.0.1" port_value: 9901 } } }',
    address: TCP,
  },
  { what: '.pb', file: 'a.pb', text: PB, address: TCP },
  { what: 'no admin', text: 'static_resources: {}', address: undefined },
  { what: 'nothing', text: '{}', address: undefined },
  {
    what: 'a port that Envoy chooses',
    text: 'admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}',
    address: undefined,
  },
  {
    what: 'admin in another place',
    text: 'node: {id: "x\\nadmin {\\n", cluster: admin}',
    address: undefined,
  },
];

for (const name of ['OLDEST_ENVOY_BIN', 'OLDER_ENVOY_BIN', 'ENVOY_BIN'] as const) {
  describe(`readBootstrap (${name})`, () => {
    for (const { what, text, file, address } of FORMS) {
      it(`${what}: ${JSON.stringify(address)}`, () =>
        withFile(text, file, async (bootstrap) => {
          const { admin } = await readBootstrap(envoyBinary(name), { bootstrap, args: [] });
          assert.deepEqual(admin, { address, allowPaths: [] });
        }));
    }
  });
}

describe('readBootstrap', () => {
  for (const name of ['OLDEST_ENVOY_BIN', 'ENVOY_BIN'] as const) {
    it(`tells which listeners it has (${name})`, () =>
      withFile(
        `static_resources:
  listeners:
  - name: plain
    address: {socket_address: {address: 127.0.0.1, port_value: 10001}}
    additional_addresses: [{address: {socketAddress: {address: "::1", portValue: 10002}}}]
    filter_chains: [{filters: [{name: listeners, typed_config: {"@type": type.googleapis.com/google.protobuf.Struct, value: {address: {}}}}]}]
    stat_prefix: x
    traffic_direction: INBOUND
  - address: {pipe: {path: /run/a.sock, mode: 0660}}
    enableReusePort: false
  - {name: any, address: {socket_address: {address: 0.0.0.0, port_value: 0}}, enable_reuse_port: true}
  - {name: inner, internal_listener: {}}
  clusters: [{name: "listeners {"}]`,
        undefined,
        async (bootstrap) => {
          const { listeners } = await readBootstrap(envoyBinary(name), { bootstrap, args: [] });
          const shared = {
            isDynamic: false,
            takesAnyPort: false,
            reusesPort: true,
            isInbound: false,
            isUdp: false,
          };
          assert.deepEqual(listeners, [
            {
              ...shared,
              name: 'plain',
              statName: 'x',
              isInbound: true,
              addresses: [
                { kind: 'ip', text: '127.0.0.1:10001' },
                { kind: 'ip', text: '[::1]:10002' },
              ],
            },
            {
              ...shared,
              name: '',
              statName: '/run/a.sock',
              addresses: [{ kind: 'unix', text: '/run/a.sock', mode: 0o660 }],
              reusesPort: false,
            },
            {
              ...shared,
              name: 'any',
              statName: '0.0.0.0_0',
              addresses: [{ kind: 'ip', text: '0.0.0.0:0' }],
              takesAnyPort: true,
            },
            {
              ...shared,
              name: 'inner',
              statName: '',
              addresses: [{ kind: 'internal', text: 'inner' }],
            },
          ]);
        },
      ));
  }

  it('tells which paths may be asked', () =>
    withFile(
      `admin: {address: {${SOCKET}}, allow_paths: [{exact: /ready}, {prefix: /stats, ignore_case: true}, {safe_regex: {regex: '/l\\w+'}}]}`,
      undefined,
      async (bootstrap) => {
        const { admin } = await readBootstrap(envoyBinary(), { bootstrap, args: [] });
        assert.deepEqual(admin.allowPaths, [
          { kind: 'exact', text: '/ready', ignoreCase: false },
          { kind: 'prefix', text: '/stats', ignoreCase: true },
          { kind: 'regex', text: '/l\\w+', ignoreCase: false },
        ]);
      },
    ));

  it('takes what an argument of the user allows, and is not led astray by one that logs elsewhere', () =>
    withFile(`nonsense: 1\nadmin: {address: {${SOCKET}}}`, undefined, async (bootstrap) => {
      const args = ['--allow-unknown-static-fields', '--log-path', '/dev/null', '-l', 'off'];
      const { admin } = await readBootstrap(envoyBinary(), { bootstrap, args });
      assert.deepEqual(admin.address, TCP);
    }));

  it('asks an Envoy behind a script that does not exec', () =>
    withFile(`admin: {address: {${SOCKET}}}`, undefined, async (bootstrap, folder) => {
      const script = join(folder, 'wrapper');
      writeFileSync(script, `#!/bin/sh\necho starting >&2\n'${envoyBinary()}' "$@"\n`);
      chmodSync(script, 0o755);
      const { admin } = await readBootstrap(script, { bootstrap, args: [] });
      assert.deepEqual(admin.address, TCP);
    }));

  it('says in one line that a broken file can’t be read', () =>
    withFile('a: [\nb: }\n', undefined, async (bootstrap) => {
      await assert.rejects(
        readBootstrap(envoyBinary(), { bootstrap, args: [] }),
        (error: unknown) => {
          assert.ok(isPm2EnvoyError(error, 'bootstrap-invalid'));
          assert.ok(error.message.includes(bootstrap) && !error.message.includes('\n'));
          return true;
        },
      );
    }));

  it('keeps this process free for others while it reads 3 MB', () => {
    const cluster = (at: number): string =>
      `  - {name: c${at}, connect_timeout: 1s, type: STATIC, load_assignment: {cluster_name: c${at}, endpoints: [{lb_endpoints: [{endpoint: {address: {${SOCKET}}}}]}]}}`;
    const clusters = Array.from({ length: 18_000 }, (_, at) => cluster(at)).join('\n');
    const text = `static_resources:\n  clusters:\n${clusters}\nadmin: {address: {${SOCKET}}}\n`;
    assert.ok(text.length > 3_000_000);
    return withFile(text, undefined, async (bootstrap) => {
      const delay = monitorEventLoopDelay({ resolution: 10 });
      delay.enable();
      const { admin } = await readBootstrap(envoyBinary(), { bootstrap, args: [] });
      delay.disable();
      assert.deepEqual(admin.address, TCP);
      // Parsing it here took seconds.
      assert.ok(delay.max < 1e9, `it was busy for ${delay.max / 1e6} ms`);
    });
  });
});

async function withFile(
  text: string | Buffer,
  name: string | undefined,
  use: (file: string, folder: string) => Promise<void>,
): Promise<void> {
  const folder = makeFolder();
  const file = join(folder.path, name ?? 'a.yaml');
  try {
    writeFileSync(file, text);
    await use(file, folder.path);
  } finally {
    folder.remove();
  }
}
