import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type EnvoyLaunch, envoyArguments, validateArguments } from '../../src/envoy/arguments.js';
import { argumentFaults } from '../../src/envoy/user-arguments.js';

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

  it('overrides the admin address, with a socket of mode 0600 in decimal that no limit holds for', () => {
    const yaml: unknown = JSON.parse(valueAfter(envoyArguments(launch), '--config-yaml') ?? '');
    assert.deepEqual(yaml, {
      admin: {
        address: { pipe: { path: '/run/pm2-envoy/generations/3/admin.sock', mode: 384 } },
        ignore_global_conn_limit: true,
      },
    });
  });

  it('allows every path where the bootstrap allows some only', () => {
    const allowPaths = [{ kind: 'exact', text: '/ready', ignoreCase: false }] as const;
    const args = envoyArguments({ ...launch, admin: { address: undefined, allowPaths } });
    const { admin } = JSON.parse(valueAfter(args, '--config-yaml') ?? '');
    assert.deepEqual(admin.allow_paths, [{ prefix: '/' }]);
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

describe('argumentFaults', () => {
  for (const argument of [
    '-c',
    '--config-path',
    '--config-path=/etc/other.yaml',
    '--config-yaml={}',
    '--mode',
    '--mode=validate',
    '--drain-time-s=5',
    '--drain-time-s 5',
    '--disable-hot-restart',
    '--base-id',
    '--restart-epoch=1',
    '--use-dynamic-base-id',
    '--base-id-path',
    '--parent-shutdown-time-s',
  ]) {
    it(`says that ${argument} is pm2-envoy's own, and what to do`, () => {
      assert.match(argumentFaults([argument])[0]?.fault ?? '', /is set by pm2-envoy: \w\w/);
    });
  }

  for (const [args, fault] of [
    [
      ['--log-level debug'],
      /^"--log-level debug" is more than one argument: write \["--log-level","debug"\]$/,
    ],
    [['--log-level=debug'], /write \["--log-level","debug"\]$/],
    [['-l debug --concurrency 2'], /write \["-l","debug","--concurrency","2"\]$/],
    [
      ['--component-log-level upstream:debug,http:trace'],
      /write \["--component-log-level","upstream:debug,http:trace"\]$/,
    ],
    [['--concurrency,2'], /write \["--concurrency","2"\]$/],
    [
      ['-l', 'loud'],
      /^"-l" is followed by "loud", which is not a log level of Envoy: trace, debug, /,
    ],
    [['-l', 'info', '--log-level', 'debug'], /^"--log-level" is there twice/],
    [['--cpuset-threads', '--cpuset-threads'], /twice/],
    [['--concurrency'], /^"--concurrency" has no value after it$/],
    [['--concurrency', 'two'], /, which is not a number of threads/],
    [['--concurrency', '-1'], /, which is not a number of threads/],
    [['2'], /^"2" belongs to no option/],
    [
      ['--component-log-level', 'upstream:debug', 'http:trace'],
      /^"http:trace" belongs to no option: .* if one of them has a comma\)$/,
    ],
    [['--version'], /makes Envoy print something and exit/],
  ] as const) {
    it(`finds what is wrong in ${args.join(' | ')}`, () => {
      const faults = argumentFaults(args).map(
        (one) => `${JSON.stringify(one.argument)} ${one.fault}`,
      );
      assert.equal(faults.length, 1, faults.join('\n'));
      assert.match(faults[0] ?? '', fault);
    });
  }

  for (const args of [
    [],
    ['--concurrency', '2', '-l', 'off'],
    ['--log-format', '[%T] %v, -l', '--drain-strategy', 'immediate'],
    ['--stats-tag', 'a:b', '--stats-tag', 'c:d'],
    ['--component-log-level', 'upstream:debug,http:trace'],
    ['--of-a-later-envoy', '3', '--cpuset-threads'],
    ['--of-a-later-envoy', '--another=5', '--mode-x'],
    ['--', 'ignored'],
  ]) {
    it(`takes ${args.join(' | ') || 'none'}`, () => {
      assert.deepEqual(argumentFaults(args), []);
    });
  }
});
