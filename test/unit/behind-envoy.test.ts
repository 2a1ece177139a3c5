import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { describe, it } from 'node:test';
import { killTimeoutMs } from '../../src/config/grace-period.js';
import { isPm2EnvoyError } from '../../src/errors.js';
import { openGenerations } from '../../src/host/generations.js';
import { ownIdentity } from '../../src/host/process-identity.js';
import { envoyApps } from '../../src/pm2/apps.js';
import { type BackendApp, behindEnvoy } from '../../src/pm2/behind-envoy.js';
import { HOLD_VARIABLE, holdStops, untilEnvoyHasEnded } from '../../src/pm2/hold-stop.js';
import { createFakeClock, makePm2Process, makeTempFolder } from './fakes.js';

const options = {
  cwd: makeTempFolder(),
  env: { PM2_ENVOY_DRAIN_TIMEOUT: '70s', PM2_ENVOY_RUN_DIR: '/run/x' },
};
const WHOLE_MS = killTimeoutMs({ drainTimeoutMs: 70_000, gracePeriodMs: undefined });

describe('behindEnvoy', () => {
  it('leaves an app as it is but for what holds its stop', () => {
    const app = { name: 'a', script: 'a.js', instances: 2, node_args: '--a --b', env: { X: '1' } };
    const held = behindEnvoy(app, options);
    assert.deepEqual(
      { ...held, node_args: app.node_args, env: app.env },
      { ...app, kill_timeout: held.kill_timeout },
    );
    assert.equal(held.kill_timeout, WHOLE_MS + 1_600);
    assert.deepEqual(held.node_args.slice(0, 2), ['--a', '--b']);
    assert.match(
      held.node_args[2] ?? '',
      /^--import=file:\/\/\/\S+\/dist\/apps\/behind-envoy\.js$/,
    );
    assert.deepEqual(JSON.parse(String(held.env[HOLD_VARIABLE])), {
      runDir: '/run/x',
      limitMs: WHOLE_MS,
    });
  });

  it('adds the time that the app itself asks for', () => {
    assert.equal(behindEnvoy({ kill_timeout: 8_000 }, options).kill_timeout, WHOLE_MS + 8_000);
  });

  const refused: BackendApp[] = [
    { name: 'a', script: 'a.py', interpreter: 'python3' },
    { name: 'a', script: 'npm' },
    { name: 'a', script: './a.sh', exec_interpreter: 'none' },
  ];
  for (const app of refused) {
    it(`refuses what Node does not run by itself: ${JSON.stringify(app)}`, () => {
      assert.throws(
        () => behindEnvoy(app, options),
        (error: unknown) =>
          isPm2EnvoyError(error, 'config-invalid') && /name the script itself/.test(error.message),
      );
    });
  }
});

describe('envoyApps({ name })', () => {
  it('names both apps', () => {
    const names = envoyApps({ ...options, name: 'edge' }).map(({ name }) => name);
    assert.deepEqual(names, ['edge', 'edge-manager']);
  });

  for (const name of ['', '7', 'all', 'a b', '-x']) {
    it(`refuses ${JSON.stringify(name)}, which pm2 takes for something else`, () => {
      assert.throws(
        () => envoyApps({ ...options, name }),
        (error: unknown) => isPm2EnvoyError(error, 'config-invalid'),
      );
    });
  }

  for (const [option, instead] of [
    [
      'envoyConfig',
      /the setting envoy-config is a variable: `env: \{ PM2_ENVOY_ENVOY_CONFIG: … \}`$/,
    ],
    [
      'check-delay',
      /the setting check-delay is a variable: `env: \{ PM2_ENVOY_CHECK_DELAY: … \}`$/,
    ],
    ['max_memory_restart', /goes into the apps that it returns: `envoyApps\(\)\.map/],
  ] as const) {
    it(`refuses the option ${option}, and says where it belongs`, () => {
      const wrong = { ...options, [option]: '1' };
      for (const make of [() => envoyApps(wrong), () => behindEnvoy({ script: 'a.js' }, wrong)]) {
        assert.throws(make, { code: 'config-invalid', message: instead });
      }
    });
  }

  it('takes a number, true and undefined in env, as pm2 does', () => {
    const env = { PM2_ENVOY_SERVE_PORT: 8123, PM2_ENVOY_CHECK_DELAY: undefined, OTHER: true };
    const [runner] = envoyApps({ ...options, env: { ...options.env, ...env } });
    assert.equal(runner?.env['PM2_ENVOY_SERVE_PORT'], '8123');
    assert.equal(runner?.env['OTHER'], 'true');
    assert.ok(!('PM2_ENVOY_CHECK_DELAY' in (runner?.env ?? {})));
    const wrong = { PM2_ENVOY_CHECK_DELAY: 10 };
    assert.throws(() => envoyApps({ ...options, env: wrong }), /did you mean "10s"\?/);
  });

  it('says what pm2 takes the name all for', () => {
    assert.throws(() => envoyApps({ ...options, name: 'all' }), /; pm2 takes "all" for every app$/);
  });
});

describe('holdStops', () => {
  const cases: [string, [string, ...unknown[]]][] = [
    ['a signal', ['SIGINT', 'SIGINT', 2]],
    ['the message shutdown', ['message', 'shutdown', undefined]],
  ];
  for (const [what, event] of cases) {
    it(`holds ${what}, however often it comes, and passes it on once`, async () => {
      const stage = prepare();
      const heard: unknown[] = [];
      stage.own.on(event[0], (...more: unknown[]) => void heard.push(more));
      stage.tell(...event);
      stage.tell(...event);
      stage.own.emit('message', 'hello');
      assert.deepEqual(heard, event[0] === 'message' ? [['hello']] : []);
      heard.length = 0;
      stage.release();
      await Promise.resolve().then(() => undefined);
      assert.deepEqual(heard, [event.slice(1)]);
      stage.tell(...event);
      assert.equal(heard.length, 2, 'what comes afterwards is not held');
    });
  }

  it('has the system end an app that listens to no signal', async () => {
    const stage = prepare();
    stage.own.emit('SIGTERM', 'SIGTERM', 15);
    assert.deepEqual(stage.killed, []);
    stage.release();
    await Promise.resolve().then(() => undefined);
    assert.deepEqual(stage.killed, ['SIGTERM']);
    assert.equal(stage.own.listenerCount('SIGTERM'), 0);
  });
});

describe('untilEnvoyHasEnded', () => {
  const runDir = makeTempFolder();
  const generations = openGenerations(runDir);
  const slot = generations.reserve();
  const self = ownIdentity();
  const more = { supervisor: undefined, version: undefined, launch: undefined, orphaned: false };
  const startedAt = new Date().toISOString();
  generations.write({ ...slot, ...more, envoy: self, runner: self, startedAt, ready: true });

  /** How long a stop is held where pm2 does not answer at first, and then that it stops Envoy, for 20 s. */
  const heldMs = async (lateAnswers: number, isPm2There: boolean): Promise<number> => {
    const clock = createFakeClock(0);
    let asked = 0;
    const processes = async () => {
      asked += 1;
      if (asked > lateAnswers) return [makePm2Process({ pid: process.pid, status: 'stopping' })];
      await clock.sleep(2_000);
      throw new Error('no answer');
    };
    const how = { runDir, limitMs: 20_000, daemon: { processes }, isPm2There: () => isPm2There };
    await untilEnvoyHasEnded({ ...how, clock });
    return clock.nowMs();
  };

  it('asks a pm2 that is late again, for seconds', async () => {
    assert.equal(await heldMs(3, true), 20_000);
    assert.ok((await heldMs(99, true)) < 12_000);
  });

  it('is over where pm2 is gone', async () => assert.ok((await heldMs(99, false)) < 3_000));
});

function prepare() {
  const killed: string[] = [];
  const own = Object.assign(new EventEmitter(), {
    pid: 1,
    kill: (_: number, signal: string) => void killed.push(signal),
  });
  let release = (): void => undefined;
  const until = new Promise<void>((resolve) => {
    release = resolve;
  });
  holdStops(() => until, own as unknown as NodeJS.Process);
  const tell = (name: string, ...more: unknown[]): boolean => own.emit(name, ...more);
  return { own, killed, tell, release: () => release() };
}
