import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  type EnvoyLaunch,
  envoyArguments,
  reservedArgument,
  validateArguments,
} from '../../src/envoy/arguments.js';

const launch: EnvoyLaunch = {
  bootstrap: '/etc/envoy/my envoy.yaml',
  adminSocket: '/run/pm2-envoy/generations/3/admin.sock',
  drainTimeMs: 600_000,
  args: ['--concurrency', '2'],
};

function valueAfter(args: readonly string[], name: string): string | undefined {
  return args[args.indexOf(name) + 1];
}

describe('envoyArguments', () => {
  it('hands Envoy the bootstrap as it is, and the user’s arguments last', () => {
    const args = envoyArguments(launch);
    assert.equal(valueAfter(args, '--config-path'), '/etc/envoy/my envoy.yaml');
    assert.deepEqual(args.slice(-2), ['--concurrency', '2']);
  });

  it('overrides nothing but the admin address, with a socket of mode 0600 in decimal', () => {
    const yaml: unknown = JSON.parse(valueAfter(envoyArguments(launch), '--config-yaml') ?? '');
    assert.deepEqual(yaml, {
      admin: {
        address: { pipe: { path: '/run/pm2-envoy/generations/3/admin.sock', mode: 384 } },
      },
    });
  });

  it('keeps a socket path with quotes in one piece', () => {
    const yaml = valueAfter(envoyArguments({ ...launch, adminSocket: '/a"b\\c' }), '--config-yaml');
    assert.equal(JSON.parse(yaml ?? '').admin.address.pipe.path, '/a"b\\c');
  });

  it('disables hot restart', () => {
    assert.ok(envoyArguments(launch).includes('--disable-hot-restart'));
  });

  it('gives the drain time in whole seconds, never 0', () => {
    const secondsFor = (drainTimeMs: number) =>
      valueAfter(envoyArguments({ ...launch, drainTimeMs }), '--drain-time-s');
    assert.equal(secondsFor(600_000), '600');
    assert.equal(secondsFor(1_600), '2');
    assert.equal(secondsFor(1_400), '1');
    assert.equal(secondsFor(1), '1');
  });
});

describe('validateArguments', () => {
  it('validates the same bootstrap with the same arguments of the user', () => {
    const args = validateArguments(launch);
    assert.equal(valueAfter(args, '--mode'), 'validate');
    assert.equal(valueAfter(args, '--config-path'), '/etc/envoy/my envoy.yaml');
    assert.deepEqual(args.slice(-2), ['--concurrency', '2']);
  });
});

describe('reservedArgument', () => {
  for (const argument of [
    '-c',
    '--config-path',
    '--config-path=/etc/other.yaml',
    '--config-yaml={}',
    '--mode',
    '--mode=validate',
    '--drain-time-s=5',
    '--disable-hot-restart',
    '--base-id',
    '--restart-epoch=1',
    '--use-dynamic-base-id',
    '--base-id-path',
    '--parent-shutdown-time-s',
  ]) {
    it(`gives a reason for ${argument}`, () => {
      assert.match(reservedArgument(argument) ?? '', /\w{3}/);
    });
  }

  for (const argument of [
    '--concurrency',
    '--concurrency=2',
    '2',
    '',
    '--drain-strategy',
    '--log-level=debug',
    '--config',
    '--mode-x',
    '--component-log-level',
    'value=--mode',
  ]) {
    it(`leaves ${JSON.stringify(argument)} to the user`, () => {
      assert.equal(reservedArgument(argument), undefined);
    });
  }
});
