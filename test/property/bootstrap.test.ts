import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, it, mock } from 'node:test';
import fc from 'fast-check';
import { stringify } from 'yaml';
import { type BootstrapAdmin, readBootstrapAdmin } from '../../src/envoy/bootstrap.js';
import { isPm2EnvoyError } from '../../src/errors.js';
import { makeTempFolder } from '../unit/fakes.js';
import { holds } from './check.js';
import { damaged } from './damage.js';

const file = join(makeTempFolder(), 'envoy.yaml');

const socket = fc.record({
  address: fc.oneof(fc.constantFrom('127.0.0.1', '0.0.0.0', '::1'), fc.string()),
  port_value: fc.oneof(fc.nat(65_535), fc.nat(65_535).map(String), fc.integer()),
});
const pipe = fc.record({ path: fc.string(), mode: fc.nat(0o777) }, { requiredKeys: ['path'] });
const bootstrap = fc
  .oneof(
    socket.map((socket_address) => ({ address: { socket_address } })),
    pipe.map((pipe) => ({ address: { pipe } })),
  )
  .map((admin) => ({ admin, static_resources: { listeners: [], clusters: [] } }));

const yaml = fc.constantFrom(
  ...['admin:', 'admin: &a {address: *a}', 'admin: [', '--- 1\n--- 2', 'a: !!binary x', '%YAML'],
  ...['admin: !!set {address}', '\u0000', '? {}', '{admin: {address: {pipe: {path: 0x10}}}}'],
  '['.repeat(200),
);

const asYaml = bootstrap.map((value) => stringify(value));
const asJson = bootstrap.chain(damaged);
const damagedYaml = fc
  .tuple(asYaml, fc.nat(300), fc.nat(9), fc.string({ maxLength: 4 }))
  .map(([text, at, cut, more]) => text.slice(0, at) + more + text.slice(at + cut));

describe('readBootstrapAdmin', () => {
  // The YAML parser warns of tags and directives that it does not know.
  before(() => void mock.method(process, 'emitWarning', () => undefined));

  it('gives an address that can be one, none, or says that the file can’t be read', () => {
    const content = fc.oneof(
      ...[asYaml, asJson, damagedYaml, yaml, fc.string(), fc.uint8Array({ maxLength: 40 })],
      fc.jsonValue().map((value) => stringify(value)),
    );
    holds(
      fc.property(content, (content) => {
        writeFileSync(file, content);
        const admin = read();
        if (!admin) return;
        if ('path' in admin) {
          assert.equal(typeof admin.path, 'string');
          assert.ok(admin.mode === undefined || typeof admin.mode === 'number');
        } else {
          assert.equal(typeof admin.host, 'string');
          assert.ok(Number.isInteger(admin.port));
        }
      }),
      300,
    );
  });

  it('finds the address, written as YAML or as JSON', () => {
    holds(
      fc.property(bootstrap, fc.boolean(), (value, isYaml) => {
        writeFileSync(file, isYaml ? stringify(value) : JSON.stringify(value));
        const { address } = value.admin;
        if ('pipe' in address) {
          assert.deepEqual(read(), { ...address.pipe });
        } else {
          const { address: host, port_value } = address.socket_address;
          assert.deepEqual(read(), { host, port: Number(port_value) });
        }
      }),
    );
  });
});

function read(): BootstrapAdmin | undefined {
  try {
    return readBootstrapAdmin(file);
  } catch (error) {
    assert.ok(isPm2EnvoyError(error, 'bootstrap-invalid'), String(error));
    assert.ok(error.message.includes(file) && !error.message.includes('\n'), error.message);
    return undefined;
  }
}
