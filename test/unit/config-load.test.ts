import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import {
  type ConfigSources,
  configVariables,
  type LoadedConfig,
  loadConfig,
  maskSettings,
  peekRunDir,
} from '../../src/config/load.js';
import { KEYS, specOf, variableOf } from '../../src/config/schema.js';
import { isPm2EnvoyError } from '../../src/errors.js';
import { makeTempFolder } from './fakes.js';

/** Loads from nothing but what is given. */
function load(sources: ConfigSources = {}): LoadedConfig {
  return loadConfig({ env: {}, cwd: '/nowhere', ...sources });
}

/** The problems that a configuration is refused with, one a line. */
function problemsOf(sources: ConfigSources): string[] {
  let message: string | undefined;
  assert.throws(
    () => load(sources),
    (error: unknown) => {
      assert.ok(isPm2EnvoyError(error, 'config-invalid'), String(error));
      message = error.message;
      return true;
    },
  );
  return (message ?? '').split('\n');
}

function onlyProblemOf(sources: ConfigSources): string {
  const problems = problemsOf(sources);
  assert.equal(problems.length, 1, problems.join('\n'));
  return problems[0] ?? '';
}

let files = 0;

/** Writes a configuration file; an object as JSON, a text as it is. */
function fileWith(content: object | string): string {
  files += 1;
  const path = join(folder, `config-${files}.json`);
  const text = typeof content === 'string' ? content : JSON.stringify(content);
  writeFileSync(path, text, { mode: 0o600 });
  return path;
}

const folder = makeTempFolder();

describe('loadConfig defaults', () => {
  it('are the documented ones', () => {
    const { config } = load({ cwd: '/srv' });
    assert.deepEqual(config, {
      checkIntervalMs: 5_000,
      checkIntervalMinMs: 100,
      checkDelayMs: 60_000,
      quietPeriodMs: 0,
      minOpenConnections: 0,
      servePort: 8090,
      serveAddress: '127.0.0.1',
      drainTimeoutMs: 300_000,
      gracePeriodMs: undefined,
      drainUntil: 'connections',
      drainListeners: 'all',
      ignoreListeners: [],
      shutdownToken: undefined,
      shutdownTokenFile: undefined,
      envoyBin: undefined,
      envoyConfig: '/srv/config/envoy.yaml',
      envoyArgs: [],
      envoyDrainTimeMs: 600_000,
      envoyLostAfterMs: 60_000,
      envoyStuckAfterMs: 0,
      orphanedDrain: 'report',
      adminAddress: undefined,
      runDir: undefined,
      plugins: [],
      logLevel: 'info',
      logFormat: 'auto',
    });
  });

  it('give every key a setting with the source default', () => {
    const { settings } = load();
    assert.deepEqual(Object.keys(settings), KEYS);
    for (const key of KEYS) assert.equal(settings[key].source, 'default');
  });
});

describe('loadConfig precedence', () => {
  const cwd = join(folder, 'precedence');
  mkdirSync(join(cwd, 'config'), { recursive: true });
  writeFileSync(
    join(cwd, 'config', 'edge.json'),
    JSON.stringify({
      'check-interval': '2s',
      'check-delay': '2s',
      'quiet-period': '2s',
      'envoy-lost-after': '2s',
    }),
  );
  writeFileSync(
    join(cwd, 'my.json'),
    JSON.stringify({ 'check-delay': '3s', 'quiet-period': '3s', 'envoy-lost-after': '3s' }),
  );
  const sources: ConfigSources = {
    cwd,
    env: {
      PM2_ENVOY_PROFILE: 'edge',
      PM2_ENVOY_CONFIG: 'my.json',
      PM2_ENVOY_QUIET_PERIOD: '4s',
      PM2_ENVOY_ENVOY_LOST_AFTER: '4s',
    },
    flags: { 'envoy-lost-after': '5s' },
  };

  it('is default < profile < file < environment < flag', () => {
    const { config } = load(sources);
    assert.equal(config.checkIntervalMinMs, 100);
    assert.equal(config.checkIntervalMs, 2_000);
    assert.equal(config.checkDelayMs, 3_000);
    assert.equal(config.quietPeriodMs, 4_000);
    assert.equal(config.envoyLostAfterMs, 5_000);
  });

  it('names the source that each value came from', () => {
    const { settings } = load(sources);
    assert.equal(settings['check-interval-min'].source, 'default');
    assert.equal(settings['check-interval'].source, 'profile edge');
    assert.equal(settings['check-delay'].source, 'file my.json');
    assert.equal(settings['quiet-period'].source, 'PM2_ENVOY_QUIET_PERIOD');
    assert.equal(settings['envoy-lost-after'].source, '--envoy-lost-after');
    assert.equal(settings['envoy-lost-after'].value, '5s');
  });

  it('judges only the value that wins', () => {
    const { config } = load({
      ...sources,
      env: { ...sources.env, PM2_ENVOY_ENVOY_LOST_AFTER: 'rubbish' },
    });
    assert.equal(config.envoyLostAfterMs, 5_000);
  });

  it('takes --config before PM2_ENVOY_CONFIG', () => {
    const configFile = fileWith({ 'check-delay': '7s' });
    const { config, settings } = load({ ...sources, configFile });
    assert.equal(config.checkDelayMs, 7_000);
    assert.equal(settings['check-delay'].source, `file ${configFile}`);
  });

  it('lets a later source set back what an earlier one set', () => {
    const configFile = fileWith({ 'serve-port': 9000, 'ignore-listeners': ['a'] });
    const env = { PM2_ENVOY_SERVE_PORT: '8090', PM2_ENVOY_IGNORE_LISTENERS: '[]' };
    const { config } = load({ configFile, env });
    assert.equal(config.servePort, 8090);
    assert.deepEqual(config.ignoreListeners, []);
  });
});

describe('loadConfig unknown keys', () => {
  it('are refused in a file, with the key that was probably meant', () => {
    const configFile = fileWith({ 'chek-delay': '5s' });
    const problem = onlyProblemOf({ configFile });
    assert.match(problem, /"chek-delay"/);
    assert.match(problem, /not a known key; did you mean "check-delay"\?/);
    assert.ok(problem.includes(configFile));
  });

  it('are refused in the environment, named as variables', () => {
    const problem = onlyProblemOf({ env: { PM2_ENVOY_CHEK_DELAY: '5s' } });
    assert.equal(
      problem,
      'PM2_ENVOY_CHEK_DELAY is not a known key; did you mean PM2_ENVOY_CHECK_DELAY?',
    );
  });

  it('are refused among the flags, named as flags', () => {
    const problem = onlyProblemOf({ flags: { 'chek-delay': '5s' } });
    assert.equal(problem, '--chek-delay is not a known key; did you mean --check-delay?');
  });

  it('are refused in a profile', () => {
    mkdirSync(join(folder, 'config'), { recursive: true });
    writeFileSync(join(folder, 'config', 'typo.json'), '{"serve-prt": 1}');
    const problem = onlyProblemOf({ cwd: folder, env: { PM2_ENVOY_PROFILE: 'typo' } });
    assert.match(problem, /"serve-prt" \(from profile typo\).*"serve-port"/);
  });

  it('get no suggestion where nothing is near', () => {
    const problem = onlyProblemOf({ env: { PM2_ENVOY_COLOUR: 'red' } });
    assert.doesNotMatch(problem, /did you mean/);
    assert.match(problem, /not a known key/);
  });

  it('do not repeat their value, which may be a secret', () => {
    const problems = problemsOf({
      configFile: fileWith({ 'shutdown-tokn': 'hunter2' }),
      env: { PM2_ENVOY_SHUTDOWN_TOKENS: 'hunter2' },
      flags: { token: 'hunter2' },
    });
    assert.equal(problems.length, 3);
    assert.doesNotMatch(problems.join(), /hunter2/);
  });

  it('are refused where the name means something to JavaScript', () => {
    const configFile = fileWith(
      '{"__proto__": {"serve-port": 1}, "constructor": 1, "toString": 1}',
    );
    assert.equal(problemsOf({ configFile }).length, 3);
  });

  it('are refused when they are spelled as in another source', () => {
    assert.equal(problemsOf({ configFile: fileWith({ checkDelay: '5s' }) }).length, 1);
    assert.equal(problemsOf({ configFile: fileWith({ PM2_ENVOY_CHECK_DELAY: '5s' }) }).length, 1);
  });
});

describe('loadConfig environment', () => {
  it('reads every key under its documented name', () => {
    assert.equal(variableOf('check-interval'), 'PM2_ENVOY_CHECK_INTERVAL');
    const { settings } = load({ env: { [variableOf('check-interval')]: '4s' } });
    assert.equal(settings['check-interval'].value, '4s');
  });

  it('takes an empty variable as one that is not set', () => {
    const env = Object.fromEntries(KEYS.map((key) => [variableOf(key), '']));
    const { settings } = load({
      env: { ...env, PM2_ENVOY_PROFILE: '', PM2_ENVOY_CONFIG: '', PM2_ENVOY_NONSENSE: '' },
    });
    for (const key of KEYS) assert.equal(settings[key].source, 'default');
  });

  it('passes over a variable that is undefined', () => {
    assert.equal(load({ env: { PM2_ENVOY_SERVE_PORT: undefined } }).config.servePort, 8090);
  });

  it('ignores what Kubernetes adds for a Service named pm2-envoy', () => {
    const { settings } = load({
      env: {
        PM2_ENVOY_SERVICE_HOST: '10.0.0.7',
        PM2_ENVOY_SERVICE_PORT: '8090',
        PM2_ENVOY_SERVICE_PORT_HTTP: '8090',
        PM2_ENVOY_SERVICE_PORT_METRICS_2: '8091',
        PM2_ENVOY_PORT: 'tcp://10.0.0.7:8090',
        PM2_ENVOY_PORT_8090_TCP: 'tcp://10.0.0.7:8090',
        PM2_ENVOY_PORT_8090_TCP_PROTO: 'tcp',
        PM2_ENVOY_PORT_8090_TCP_PORT: '8090',
        PM2_ENVOY_PORT_8090_TCP_ADDR: '10.0.0.7',
        PM2_ENVOY_PORT_53_UDP: 'udp://10.0.0.7:53',
      },
    });
    for (const key of KEYS) assert.equal(settings[key].source, 'default');
  });

  it('ignores what Kubernetes adds for a Service named pm2-envoy-SOMETHING', () => {
    const { config, settings } = load({
      env: {
        PM2_ENVOY_METRICS_SERVICE_HOST: '10.0.0.1',
        PM2_ENVOY_METRICS_SERVICE_PORT: '80',
        PM2_ENVOY_METRICS_SERVICE_PORT_HTTP: '80',
        PM2_ENVOY_METRICS_PORT: 'tcp://10.0.0.1:80',
        PM2_ENVOY_METRICS_PORT_80_TCP: 'tcp://10.0.0.1:80',
        PM2_ENVOY_METRICS_PORT_80_TCP_ADDR: '10.0.0.1',
        PM2_ENVOY_SERVE_PORT: '9000',
      },
    });
    assert.equal(config.servePort, 9_000);
    const changed = KEYS.filter((key) => settings[key].source !== 'default');
    assert.deepEqual(changed, ['serve-port']);
  });

  it('takes the address of a Service named pm2-envoy-serve for no port of ours', () => {
    const env = { PM2_ENVOY_SERVE_PORT: 'tcp://10.0.0.1:80' };
    assert.equal(load({ env }).config.servePort, 8090);
  });

  it('refuses what only resembles a variable of Kubernetes', () => {
    const env = { PM2_ENVOY_SERVICE: 'x', PM2_ENVOY_PORTS: 'x', PM2_ENVOY_SERVICE_PROT: 'x' };
    assert.equal(problemsOf({ env }).length, 3);
  });

  it('leaves variables without the prefix alone', () => {
    const env = { PM2_HOME: 'x', ENVOY_BIN: 'x', XPM2_ENVOY_COLOUR: 'x', PM2_ENVOYS: 'x' };
    assert.equal(load({ env }).config.servePort, 8090);
  });

  it('reads numbers', () => {
    const env = { PM2_ENVOY_SERVE_PORT: ' 9000 ', PM2_ENVOY_MIN_OPEN_CONNECTIONS: '12' };
    const { config } = load({ env });
    assert.equal(config.servePort, 9_000);
    assert.equal(config.minOpenConnections, 12);
  });
});

describe('loadConfig lists from text', () => {
  const listOf = (text: string) =>
    load({ flags: { 'ignore-listeners': text } }).config.ignoreListeners;

  it('are separated by commas, with space around them left out', () => {
    assert.deepEqual(listOf('a'), ['a']);
    assert.deepEqual(listOf(' a , b* ,,c, '), ['a', 'b*', 'c']);
  });

  it('may be JSON', () => {
    assert.deepEqual(listOf('["a,b", " c"]'), ['a,b', ' c']);
    assert.deepEqual(listOf(' []'), []);
  });

  it('may hold the names of IPv6 listeners, which begin with a bracket', () => {
    assert.deepEqual(listOf('[__1]_10000'), ['[__1]_10000']);
    assert.deepEqual(listOf('[__1]_10000, web,[__]_80'), ['[__1]_10000', 'web', '[__]_80']);
    const { config } = load({ env: { PM2_ENVOY_IGNORE_LISTENERS: '[__1]_10000' } });
    assert.deepEqual(config.ignoreListeners, ['[__1]_10000']);
  });

  it('are empty for an empty flag', () => {
    assert.deepEqual(listOf(''), []);
    assert.deepEqual(listOf(' , '), []);
  });

  for (const text of ['["a"', '[1]', '[""]', '["a", null]', '[["a"]]']) {
    it(`are refused when they hold ${text}`, () => {
      assert.match(
        onlyProblemOf({ flags: { 'ignore-listeners': text } }),
        /^ignore-listeners: .*--ignore-listeners.*must be a list of strings/,
      );
    });
  }

  it('hand Envoy its arguments one by one', () => {
    const { config } = load({ env: { PM2_ENVOY_ENVOY_ARGS: '--concurrency,2' } });
    assert.deepEqual(config.envoyArgs, ['--concurrency', '2']);
  });

  it('hand Envoy arguments that mean something to JavaScript', () => {
    const { config } = load({ env: { PM2_ENVOY_ENVOY_ARGS: '--service-node,constructor' } });
    assert.deepEqual(config.envoyArgs, ['--service-node', 'constructor']);
  });
});

describe('loadConfig wrong values in a file', () => {
  const wrong: readonly [string, unknown, RegExp][] = [
    ['serve-port', '8090', /must be a port, 0 to 65535/],
    ['serve-port', 65_536, /must be a port, 0 to 65535/],
    ['serve-port', -1, /must be a port, 0 to 65535/],
    ['serve-port', 80.5, /must be a port, 0 to 65535/],
    ['serve-port', true, /must be a port, 0 to 65535/],
    ['min-open-connections', '3', /must be a whole number, 0 or more/],
    ['min-open-connections', -1, /must be a whole number, 0 or more/],
    ['min-open-connections', 1e300, /must be a whole number, 0 or more/],
    ['check-delay', 5, /must be a duration with a unit.*did you mean "5s"\?/],
    ['check-delay', '5', /must be a duration with a unit.*did you mean "5s"\?/],
    ['check-delay', '-5s', /must be a duration with a unit/],
    ['check-delay', ['5s'], /must be a duration with a unit/],
    ['check-delay', '600h', /at most 596h/],
    ['check-interval', '0s', /must be at least 1ms/],
    ['check-interval-min', '0ms', /must be at least 1ms/],
    ['drain-timeout', '0s', /must be at least 1ms/],
    ['envoy-drain-time', '0s', /must be at least 1ms/],
    ['serve-address', 'localhost', /must be an IP address/],
    ['serve-address', '127.0.0.1:8090', /must be an IP address/],
    ['serve-address', '', /must be an IP address/],
    ['drain-until', 'Requests', /must be connections or requests/],
    ['ignore-listeners', 'a,b', /must be a list of strings/],
    ['ignore-listeners', [1], /must be a list of strings/],
    ['envoy-bin', '', /must be a path/],
    ['envoy-bin', 5, /must be a path/],
    ['envoy-config', '', /must be a path/],
    ['run-dir', ['/run'], /must be a path/],
    ['admin-address', 'localhost:9901', /must be http:\/\/HOST:PORT or unix:\/PATH/],
    ['admin-address', 'https://127.0.0.1:9901', /must be http:\/\/HOST:PORT or unix:\/PATH/],
    ['admin-address', 'http://127.0.0.1:9901/stats', /must be http:\/\/HOST:PORT or unix:\/PATH/],
    ['admin-address', 'http://127.0.0.1:9901?a', /must be http:\/\/HOST:PORT or unix:\/PATH/],
    ['admin-address', 'unix:relative.sock', /must be http:\/\/HOST:PORT or unix:\/PATH/],
    ['admin-address', 'unix:/', /must be http:\/\/HOST:PORT or unix:\/PATH/],
    ['admin-address', '', /must be http:\/\/HOST:PORT or unix:\/PATH/],
    ['admin-address', 9901, /must be http:\/\/HOST:PORT or unix:\/PATH/],
    ['plugins', './a.js', /must be a list of module paths/],
    ['plugins', [['./a.js']], /must be a list of module paths/],
    ['plugins', [['./a.js', null]], /must be a list of module paths/],
    ['plugins', [['./a.js', 'x']], /must be a list of module paths/],
    ['plugins', [['', {}]], /must be a list of module paths/],
    ['plugins', [''], /must be a list of module paths/],
    ['plugins', [{ path: './a.js' }], /must be a list of module paths/],
    ['log-level', 'verbose', /must be debug, info, .* or silent/],
    ['log-format', 'yaml', /must be auto, json or text/],
  ];
  for (const [key, value, expected] of wrong) {
    it(`refuses ${key} ${JSON.stringify(value)} with key, value, source and what is allowed`, () => {
      const configFile = fileWith({ [key]: value });
      const problem = onlyProblemOf({ configFile });
      assert.ok(problem.startsWith(`${key}: ${JSON.stringify(value)} (from file ${configFile}) `));
      assert.match(problem, expected);
    });
  }

  for (const key of KEYS) {
    const values = specOf(key).default === null ? [{}] : [{}, null];
    it(`refuses ${key} ${values.map((value) => JSON.stringify(value)).join(' and ')}`, () => {
      for (const value of values) {
        assert.ok(onlyProblemOf({ configFile: fileWith({ [key]: value }) }).startsWith(`${key}: `));
      }
    });
  }

  it('refuses a flag that is no number by the text that was typed', () => {
    for (const text of ['http', '0x50', '1e3', '', '80 90', 'NaN']) {
      assert.match(onlyProblemOf({ flags: { 'serve-port': text } }), /must be a port/);
    }
  });

  it('reports all problems together, one per line', () => {
    const problems = problemsOf({
      configFile: fileWith({ 'serve-port': '1', colour: 'red' }),
      env: { PM2_ENVOY_PROFILE: 'nope', PM2_ENVOY_CHECK_DELAY: '5', PM2_ENVOY_LOG_LEVEL: 'loud' },
      flags: { 'drain-until': 'never', 'envoy-args': '--mode=init_only', nonsense: '1' },
    });
    for (const start of [
      'PM2_ENVOY_PROFILE',
      '"colour"',
      '--nonsense',
      'serve-port',
      'check-delay',
      'drain-until',
      'log-level',
      'envoy-args',
    ]) {
      assert.equal(problems.filter((line) => line.startsWith(start)).length, 1, start);
    }
    assert.equal(problems.length, 8);
  });

  it('keeps a problem on one line, though a value or a path ends one', () => {
    assert.match(
      onlyProblemOf({ env: { PM2_ENVOY_CHECK_DELAY: '400s\n' } }),
      /^check-delay 400s \(from PM2_ENVOY_CHECK_DELAY\) must be below/,
    );
    assert.match(
      onlyProblemOf({ env: { PM2_ENVOY_SHUTDOWN_TOKEN_FILE: '/nowhere/token\n' } }),
      /can't be read: .*'\/nowhere\/token '$/,
    );
  });
});

describe('loadConfig combinations', () => {
  it('refuses a check-delay that is not below drain-timeout, with both sources', () => {
    for (const timeout of ['60s', '1m', '59s']) {
      assert.match(
        onlyProblemOf({ env: { PM2_ENVOY_DRAIN_TIMEOUT: timeout } }),
        new RegExp(
          `check-delay 60s \\(from default\\) must be below drain-timeout ${timeout} \\(from PM2_ENVOY_DRAIN_TIMEOUT\\)`,
        ),
      );
    }
    assert.equal(load({ flags: { 'drain-timeout': '60001ms' } }).config.drainTimeoutMs, 60_001);
  });

  it('refuses a check-interval-min above check-interval, and takes an equal one', () => {
    assert.match(
      onlyProblemOf({ flags: { 'check-interval': '1s', 'check-interval-min': '1001ms' } }),
      /check-interval-min 1001ms .* at most check-interval 1s/,
    );
    const equal = load({ flags: { 'check-interval': '1s', 'check-interval-min': '1000ms' } });
    assert.equal(equal.config.checkIntervalMinMs, 1_000);
  });

  it('does not add a combination to a value that is wrong by itself', () => {
    assert.match(onlyProblemOf({ flags: { 'drain-timeout': '5' } }), /must be a duration/);
    assert.match(onlyProblemOf({ flags: { 'check-delay': 'x' } }), /must be a duration/);
  });

  it('refuses a token together with a token file', () => {
    const file = fileWith('hunter2');
    const problem = onlyProblemOf({
      flags: { 'shutdown-token': 'hunter2', 'shutdown-token-file': file },
    });
    assert.match(problem, /shutdown-token and shutdown-token-file/);
    assert.doesNotMatch(problem, /hunter2/);
  });

  it('refuses Envoy arguments that are pm2-envoy’s own, each with its reason', () => {
    const problems = problemsOf({
      env: { PM2_ENVOY_ENVOY_ARGS: '-c,/x.yaml,--concurrency,2,--drain-time-s=3' },
    });
    assert.equal(problems.length, 2);
    assert.match(problems[0] ?? '', /"-c" \(from PM2_ENVOY_ENVOY_ARGS\).*envoy-config/);
    assert.match(problems[1] ?? '', /"--drain-time-s=3".*envoy-drain-time/);
  });
});

describe('loadConfig shutdown token', () => {
  it('comes from the setting', () => {
    const { config } = load({ env: { PM2_ENVOY_SHUTDOWN_TOKEN: 'hunter2' } });
    assert.equal(config.shutdownToken, 'hunter2');
  });

  it('comes from the environment without the line’s end, which no header can carry', () => {
    const { config } = load({ env: { PM2_ENVOY_SHUTDOWN_TOKEN: 'hunter2\n' } });
    assert.equal(config.shutdownToken, 'hunter2');
  });

  it('comes from a file, without the line’s end, relative to cwd', () => {
    writeFileSync(join(folder, 'token'), '  hunter2\r\n', { mode: 0o600 });
    const { config } = load({ cwd: folder, flags: { 'shutdown-token-file': 'token' } });
    assert.equal(config.shutdownToken, 'hunter2');
    assert.equal(config.shutdownTokenFile, join(folder, 'token'));
  });

  it('is never in a message, whatever is wrong with it', () => {
    for (const value of [['hunter2'], { a: 'hunter2' }]) {
      const problem = onlyProblemOf({ configFile: fileWith({ 'shutdown-token': value }) });
      assert.match(problem, /^shutdown-token: .*must be text/);
      assert.doesNotMatch(problem, /hunter2/);
    }
    assert.doesNotMatch(
      onlyProblemOf({ configFile: fileWith({ 'shutdown-token': 424242 }) }),
      /424242/,
    );
  });

  it('can’t be empty', () => {
    for (const token of ['', ' \n']) {
      assert.match(
        onlyProblemOf({ flags: { 'shutdown-token': token } }),
        /must be text, not empty/,
      );
    }
    const file = fileWith(' \n');
    assert.match(onlyProblemOf({ flags: { 'shutdown-token-file': file } }), /the file is empty/);
  });

  it('must be one that a header can carry, from wherever it comes', () => {
    for (const token of ['hunter2\nx', 'hunter2\u0000', 'hünter2', 'hunter2\u007f', ' hunter2']) {
      const problem = onlyProblemOf({ configFile: fileWith({ 'shutdown-token': token }) });
      assert.match(problem, /^shutdown-token: its value \(from file .*printable ASCII/);
      assert.doesNotMatch(problem, /h.nter2/);
    }
    for (const token of ['hunter2\nx', 'hünter2', `hunter2${'x'.repeat(5_000)}`]) {
      const problem = onlyProblemOf({ flags: { 'shutdown-token-file': fileWith(token) } });
      assert.match(problem, /^shutdown-token-file: .*can't be used: its content must be/);
      assert.doesNotMatch(problem, /h.nter2/);
    }
  });

  it('is refused when others can read its file, with what to do', () => {
    const file = fileWith('hunter2');
    chmodSync(file, 0o644);
    const problem = onlyProblemOf({ flags: { 'shutdown-token-file': file } });
    assert.match(
      problem,
      /^shutdown-token-file: .*is open to others \(mode 0644\): chmod 6[04]0 it/,
    );
    assert.match(problem, /Kubernetes set defaultMode: 0440, and fsGroup/);
    assert.doesNotMatch(problem, /hunter2/);
  });

  it('is refused early when its file is missing or a folder', () => {
    for (const path of ['/nowhere/token', folder]) {
      assert.match(
        onlyProblemOf({ flags: { 'shutdown-token-file': path } }),
        /^shutdown-token-file: .*--shutdown-token-file.*can't be read/,
      );
    }
  });
});

describe('loadConfig configuration file', () => {
  it('is refused when it is missing', () => {
    const problem = onlyProblemOf({ env: { PM2_ENVOY_CONFIG: 'missing.json' } });
    assert.match(problem, /missing\.json.*can't be read.*ENOENT/);
  });

  for (const content of ['', '{', '{"a": }', 'check-delay: 5s', '\u0000']) {
    it(`is refused when it holds ${JSON.stringify(content)}`, () => {
      assert.match(onlyProblemOf({ configFile: fileWith(content) }), /can't be read/);
    });
  }

  for (const content of ['[]', '[{"check-delay": "5s"}]', 'null', '5', '"text"']) {
    it(`is refused when its JSON is ${content}`, () => {
      assert.match(onlyProblemOf({ configFile: fileWith(content) }), /must hold one JSON object/);
    });
  }

  it('is refused when its JSON is broken, without the text around the fault', () => {
    for (const content of ['{"shutdown-token": hunter2}', '{"shutdown-token": "hunter2" x}']) {
      const problem = onlyProblemOf({ configFile: fileWith(content) });
      assert.match(problem, /can't be read: it is not valid JSON/);
      assert.doesNotMatch(problem, /hunter/);
    }
  });

  it('is refused when it is a folder', () => {
    assert.match(onlyProblemOf({ configFile: folder }), /can't be read/);
  });

  it('may be empty', () => {
    assert.equal(load({ configFile: fileWith({}) }).config.servePort, 8090);
  });
});

describe('loadConfig profile', () => {
  it('finds the profiles that pm2-envoy brings along from any folder', () => {
    const container = load({ env: { PM2_ENVOY_PROFILE: 'container' } });
    assert.equal(container.config.serveAddress, '0.0.0.0');
    assert.equal(container.settings['serve-address'].source, 'profile container');
    const local = load({ env: { PM2_ENVOY_PROFILE: 'local' } });
    assert.equal(local.config.checkDelayMs, 0);
    assert.equal(local.config.serveAddress, '127.0.0.1');
  });

  it('prefers the working directory’s own of the same name', () => {
    mkdirSync(join(folder, 'own', 'config'), { recursive: true });
    writeFileSync(join(folder, 'own', 'config', 'container.json'), '{"serve-port": 1}');
    const { config } = load({ cwd: join(folder, 'own'), env: { PM2_ENVOY_PROFILE: 'container' } });
    assert.equal(config.servePort, 1);
    assert.equal(config.serveAddress, '127.0.0.1');
  });

  it('can’t lead out of the folder config', () => {
    writeFileSync(join(folder, 'x.json'), '{"serve-port": 1}');
    mkdirSync(join(folder, 'config', 'sub'), { recursive: true });
    writeFileSync(join(folder, 'config', 'sub', 'x.json'), '{"serve-port": 1}');
    const absolute = join(folder, 'x');
    for (const name of ['../x', '..\\x', 'sub/x', absolute, './x', 'x\u0000', ' x', '..', '.']) {
      const problem = onlyProblemOf({ cwd: folder, env: { PM2_ENVOY_PROFILE: name } });
      assert.ok(problem.startsWith(`PM2_ENVOY_PROFILE: ${JSON.stringify(name)} is not a profile`));
    }
  });

  it('is refused when there is none of that name', () => {
    assert.match(
      onlyProblemOf({ env: { PM2_ENVOY_PROFILE: 'prod' } }),
      /"prod" is not a profile: there is no .*prod\.json/,
    );
  });

  it('is refused when its JSON is broken', () => {
    mkdirSync(join(folder, 'config'), { recursive: true });
    writeFileSync(join(folder, 'config', 'broken.json'), '{');
    assert.match(
      onlyProblemOf({ cwd: folder, env: { PM2_ENVOY_PROFILE: 'broken' } }),
      /profile broken .*can't be read/,
    );
  });
});

describe('loadConfig plugins', () => {
  const pluginsOf = (plugins: unknown, cwd = '/srv/app') =>
    load({ cwd, configFile: fileWith({ plugins }) }).config.plugins;

  it('are module paths, with no options of their own', () => {
    assert.deepEqual(pluginsOf(['my-plugin', '@scope/plugin']), [
      { path: 'my-plugin', options: {} },
      { path: '@scope/plugin', options: {} },
    ]);
  });

  it('may have options', () => {
    assert.deepEqual(pluginsOf([['my-plugin', { channel: '#ops', deep: [1] }]]), [
      { path: 'my-plugin', options: { channel: '#ops', deep: [1] } },
    ]);
  });

  it('are files where they start with a dot or a slash, from the working directory', () => {
    assert.deepEqual(
      pluginsOf(['./a.js', '../b.js', '/c.js', ['./d.js', {}]]).map(({ path }) => path),
      ['/srv/app/a.js', '/srv/b.js', '/c.js', '/srv/app/d.js'],
    );
  });

  it('can be set by text: JSON, or paths separated by commas', () => {
    const fromText = (text: string) =>
      load({ cwd: '/srv', env: { PM2_ENVOY_PLUGINS: text } }).config.plugins;
    assert.deepEqual(fromText('./a.js, b'), [
      { path: '/srv/a.js', options: {} },
      { path: 'b', options: {} },
    ]);
    assert.deepEqual(fromText('[["./a.js", {"x": 1}], "b"]'), [
      { path: '/srv/a.js', options: { x: 1 } },
      { path: 'b', options: {} },
    ]);
  });
});

describe('loadConfig paths', () => {
  it('start at the working directory, whatever source they come from', () => {
    const { config } = load({
      cwd: '/srv/app',
      configFile: fileWith({ 'run-dir': 'run' }),
      env: { PM2_ENVOY_ENVOY_CONFIG: '../envoy.yaml' },
      flags: { 'envoy-bin': './bin/envoy' },
    });
    assert.equal(config.runDir, '/srv/app/run');
    assert.equal(config.envoyConfig, '/srv/envoy.yaml');
    assert.equal(config.envoyBin, '/srv/app/bin/envoy');
  });

  it('stay as they are when they are absolute', () => {
    assert.equal(load({ flags: { 'run-dir': '/run/x' } }).config.runDir, '/run/x');
  });

  it('of the configuration file start there too', () => {
    writeFileSync(join(folder, 'relative.json'), '{"serve-port": 1}');
    const { config } = load({ cwd: folder, configFile: './relative.json' });
    assert.equal(config.servePort, 1);
  });
});

describe('loadConfig admin address', () => {
  it('is read into its parts', () => {
    const addressOf = (text: string) =>
      load({ flags: { 'admin-address': text } }).config.adminAddress;
    assert.deepEqual(addressOf('http://127.0.0.1:9901'), {
      kind: 'tcp',
      url: 'http://127.0.0.1:9901',
    });
    assert.deepEqual(addressOf('http://[::1]:9901/'), { kind: 'tcp', url: 'http://[::1]:9901' });
    assert.deepEqual(addressOf('unix:/run/envoy.sock'), { kind: 'unix', path: '/run/envoy.sock' });
  });
});

describe('peekRunDir', () => {
  const peek = (values: object, sources: ConfigSources = {}) =>
    peekRunDir({ env: {}, cwd: '/srv', configFile: fileWith(values), ...sources });

  it('is that of the strongest source, though the rest is wrong', () => {
    assert.equal(peek({ 'run-dir': 'run', colour: 'red', 'check-delay': 5 }), '/srv/run');
    assert.equal(peek({ 'run-dir': 'run' }, { flags: { 'run-dir': '/run/x' } }), '/run/x');
    assert.equal(peek({ 'run-dir': 'run' }, { env: { PM2_ENVOY_RUN_DIR: '' } }), '/srv/run');
  });

  it('is the default where none is set, or null cancels it', () => {
    assert.equal(peek({}), undefined);
    const cwd = join(folder, 'peek');
    mkdirSync(join(cwd, 'config'), { recursive: true });
    writeFileSync(join(cwd, 'config', 'edge.json'), '{"run-dir": "/run/edge"}');
    const env = { PM2_ENVOY_PROFILE: 'edge' };
    assert.equal(peek({}, { cwd, env }), '/run/edge');
    assert.equal(peek({ 'run-dir': null }, { cwd, env }), undefined);
  });
});

describe('maskSettings', () => {
  it('hides the token and says where it came from', () => {
    const { settings } = load({ env: { PM2_ENVOY_SHUTDOWN_TOKEN: 'hunter2' } });
    const masked = maskSettings(settings);
    assert.deepEqual(masked['shutdown-token'], {
      value: '***',
      source: 'PM2_ENVOY_SHUTDOWN_TOKEN',
    });
    assert.doesNotMatch(JSON.stringify(masked), /hunter2/);
  });

  it('shows that there is no token', () => {
    assert.equal(maskSettings(load().settings)['shutdown-token'].value, null);
  });

  it('leaves everything else, and the settings it was given, alone', () => {
    const { settings } = load({ flags: { 'shutdown-token': 'hunter2', 'serve-port': '1' } });
    const masked = maskSettings(settings);
    assert.deepEqual(Object.keys(masked), KEYS);
    assert.equal(masked['serve-port'].value, 1);
    assert.equal(settings['shutdown-token'].value, 'hunter2');
  });
});

describe('configVariables', () => {
  it('hands on the configuration file with an absolute path', () => {
    assert.deepEqual(configVariables({ env: { PM2_ENVOY_CONFIG: 'a.json' }, cwd: '/srv' }), {
      PM2_ENVOY_CONFIG: '/srv/a.json',
    });
    assert.deepEqual(
      configVariables({
        env: { PM2_ENVOY_CONFIG: 'a.json' },
        cwd: '/srv',
        configFile: '../b.json',
      }),
      { PM2_ENVOY_CONFIG: '/b.json' },
    );
  });

  it('hands on nothing where there is none', () => {
    assert.deepEqual(configVariables({ env: {}, cwd: '/srv' }), {});
    assert.deepEqual(configVariables({ env: { PM2_ENVOY_CONFIG: '' }, cwd: '/srv' }), {});
  });
});
