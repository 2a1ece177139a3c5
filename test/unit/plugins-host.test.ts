import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it, mock } from 'node:test';
import { LONGEST_MS } from '../../src/config/duration.js';
import { loadConfig } from '../../src/config/load.js';
import type { DrainSteps } from '../../src/drain/run.js';
import { createDrainRun } from '../../src/drain/run.js';
import { isPm2EnvoyError } from '../../src/errors.js';
import type { CommandSpec, HookContext, Plugin, PluginHost } from '../../src/plugins/api/types.js';
import { createPluginHost, type LoadedPlugin } from '../../src/plugins/host.js';
import { HOOK_TIMEOUT_MS } from '../../src/plugins/registry.js';
import {
  createFakeClock,
  createFakeEnvoy,
  createFakeLog,
  drainConfig,
  makeRecord,
  targetOf,
  undecided,
} from './fakes.js';

const { config } = loadConfig({ env: {}, cwd: '/nowhere' });
const never = new Promise<void>(() => undefined);

/** Lets everything happen that waits for no timer. */
const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

function pluginOf(name: string, plugin: Plugin, more: Partial<LoadedPlugin> = {}): LoadedPlugin {
  return {
    name,
    create: class {
      commands = plugin.commands ?? {};
      hooks = plugin.hooks ?? {};
    },
    options: {},
    ...more,
  };
}

function command(...lifecycleEvents: string[]): CommandSpec {
  return { usage: 'does something', lifecycleEvents };
}

/** What pm2-envoy itself brings along: a command `shutdown` whose events are noted. */
function shutdownPlugin(notes: string[]): LoadedPlugin {
  const note = ({ event }: HookContext): void => void notes.push(`step ${event}`);
  return pluginOf(
    'own',
    {
      commands: { shutdown: command('one', 'two', 'three') },
      hooks: { 'shutdown:one': note, 'shutdown:two': note, 'shutdown:three': note },
    },
    { builtIn: true },
  );
}

function hostOf(...plugins: LoadedPlugin[]) {
  const fakeLog = createFakeLog();
  const host: PluginHost = createPluginHost({ config, log: fakeLog.log, plugins });
  return { host, fakeLog };
}

function assertInvalid(reason: RegExp, ...plugins: LoadedPlugin[]): void {
  assert.throws(
    () => hostOf(...plugins),
    (error: unknown) => {
      assert.ok(isPm2EnvoyError(error, 'plugin-invalid'), String(error));
      assert.match(error.message, reason);
      return true;
    },
  );
}

function makeDrain(): DrainSteps {
  const clock = createFakeClock();
  return createDrainRun({
    command: 'shutdown',
    record: makeRecord(clock.nowMs()),
    ledger: undecided,
    targets: [targetOf(createFakeEnvoy())],
    config: drainConfig,
    clock,
    log: createFakeLog().log,
  });
}

describe('an event that pm2-envoy itself could not do', () => {
  it('has no hooks after it, and the next events go on', async () => {
    const notes: string[] = [];
    const own = shutdownPlugin(notes);
    const failing = pluginOf(
      'failing',
      {
        hooks: {
          'shutdown:one': () => Promise.reject(new Error('Envoy does not obey')),
        },
      },
      { builtIn: true },
    );
    const note = ({ event }: HookContext): void => void notes.push(`after ${event}`);
    const users = pluginOf('users', {
      hooks: { 'after:shutdown:one': note, 'after:shutdown:two': note },
    });
    const { host } = hostOf(own, failing, users);
    await host.run('shutdown', { drain: makeDrain() });
    await host.settled();
    assert.deepEqual(notes, ['step one', 'step two', 'after two', 'step three']);
  });
});

describe('createPluginHost', () => {
  it('constructs each plugin with the host and its own options', () => {
    const seen: unknown[] = [];
    class Curious {
      constructor(host: PluginHost, options: Readonly<Record<string, unknown>>) {
        seen.push(host, options);
      }
    }
    const { host } = hostOf({ name: 'curious', create: Curious, options: { channel: '#ops' } });
    assert.deepEqual(seen, [host, { channel: '#ops' }]);
    assert.equal(host.config, config);
  });

  it('offers the commands of all plugins', () => {
    const { host } = hostOf(
      pluginOf('a', { commands: { one: command('x') } }),
      pluginOf('b', { commands: { 'two:more': command('y') } }),
    );
    assert.deepEqual([...host.commands.keys()], ['one', 'two:more']);
  });

  it('refuses a constructor that throws, with the plugin’s name, reason and cause', () => {
    const cause = new Error('no credentials');
    class Broken {
      constructor() {
        throw cause;
      }
    }
    assert.throws(
      () => hostOf({ name: './broken.js', create: Broken, options: {} }),
      (error: unknown) =>
        isPm2EnvoyError(error, 'plugin-invalid') &&
        /broken\.js.*no credentials/.test(error.message) &&
        error.cause === cause,
    );
  });

  it('refuses a command that exists already', () => {
    assertInvalid(
      /plugin b .*command shutdown already exists/,
      shutdownPlugin([]),
      pluginOf('b', { commands: { shutdown: command('x') } }),
    );
  });

  const unknownHooks = [
    'shutdown',
    'shutdown:four',
    'before:shutdown',
    'before:shutdown:four',
    'during:shutdown:one',
    'before:before:shutdown:one',
    'before:after:shutdown:one',
    'Shutdown:one',
    ' shutdown:one',
    'reload:one',
    '',
  ];
  for (const name of unknownHooks) {
    it(`refuses the hook name ${JSON.stringify(name)} and lists the known ones`, () => {
      const plugin = pluginOf('typo', { hooks: { [name]: () => undefined } });
      assertInvalid(/plugin typo .*no lifecycle event.*shutdown:one/, shutdownPlugin([]), plugin);
    });
  }

  it('names the hooks of all plugins', () => {
    const { host } = hostOf(
      shutdownPlugin([]),
      pluginOf('a', { hooks: { 'before:shutdown:two': () => undefined } }),
    );
    assert.deepEqual(host.hookNames, [
      ...['shutdown:one', 'shutdown:two', 'shutdown:three', 'before:shutdown:two'],
    ]);
  });

  it('takes hooks on a command of a plugin that comes later', () => {
    const early = pluginOf('early', { hooks: { 'before:later:x': () => undefined } });
    const later = pluginOf('later', { commands: { later: command('x') } });
    assert.doesNotThrow(() => hostOf(early, later));
  });

  it('refuses a hook that is no function and has none', () => {
    for (const hook of [null, undefined, 5, 'text', {}, { timeoutMs: 5 }, { run: 'x' }]) {
      const hooks = { 'shutdown:one': hook } as unknown as NonNullable<Plugin['hooks']>;
      assertInvalid(
        /plugin odd .*neither a function/,
        shutdownPlugin([]),
        pluginOf('odd', { hooks }),
      );
    }
  });

  it('refuses a command without a list of lifecycle events', () => {
    for (const spec of [
      { usage: 'x' },
      { lifecycleEvents: 'one' },
      { lifecycleEvents: [5] },
      null,
    ]) {
      const commands = { odd: spec } as unknown as NonNullable<Plugin['commands']>;
      assertInvalid(
        /plugin careless .*command odd has no list of lifecycleEvents/,
        pluginOf('careless', { commands, hooks: { 'odd:one': () => undefined } }),
      );
    }
  });

  it('refuses a time limit that no timer can wait for', () => {
    for (const timeoutMs of [Infinity, LONGEST_MS + 1, 0, -1, Number.NaN]) {
      assertInvalid(
        new RegExp(`plugin patient .*hook shutdown:one has timeoutMs ${timeoutMs}; allowed: 1 to`),
        shutdownPlugin([]),
        pluginOf('patient', { hooks: { 'shutdown:one': { run: () => undefined, timeoutMs } } }),
      );
    }
  });

  it('takes the longest time limit there is', () => {
    const hooks = { 'shutdown:one': { run: () => undefined, timeoutMs: LONGEST_MS } };
    assert.doesNotThrow(() => hostOf(shutdownPlugin([]), pluginOf('patient', { hooks })));
  });

  it('takes a plugin with neither commands nor hooks', () => {
    assert.doesNotThrow(() => hostOf({ name: 'idle', create: class {}, options: {} }));
  });

  it('calls a method with its plugin as this, also in the form with settings', async () => {
    const seen: string[] = [];
    class Methods implements Plugin {
      name = 'me';
      hooks = { 'before:shutdown:one': this.plain, 'after:shutdown:one': { run: this.plain } };
      plain(): void {
        seen.push(this.name);
      }
    }
    const { host } = hostOf(shutdownPlugin([]), { name: 'm', create: Methods, options: {} });
    await host.run('shutdown');
    assert.deepEqual(seen, ['me', 'me']);
  });
});

describe('PluginHost run', () => {
  it('goes through before, at and after each event in order, plugin by plugin', async () => {
    const notes: string[] = [];
    const note = (text: string) => () => void notes.push(text);
    const noting = (name: string) =>
      pluginOf(name, {
        hooks: {
          'after:shutdown:one': note(`${name} after one`),
          'before:shutdown:two': note(`${name} before two`),
          'shutdown:one': note(`${name} at one`),
          'before:shutdown:one': note(`${name} before one`),
        },
      });
    const { host } = hostOf(noting('a'), shutdownPlugin(notes), noting('b'));
    await host.run('shutdown', { onEvent: (event) => notes.push(`event ${event}`) });
    assert.deepEqual(notes, [
      'event one',
      'a before one',
      'b before one',
      'a at one',
      'step one',
      'b at one',
      'a after one',
      'b after one',
      'event two',
      'a before two',
      'b before two',
      'step two',
      'event three',
      'step three',
    ]);
  });

  it('begins with the event that it is told', async () => {
    const notes: string[] = [];
    const { host } = hostOf(shutdownPlugin(notes));
    await host.run('shutdown', { from: 'two', onEvent: (event) => notes.push(event) });
    assert.deepEqual(notes, ['two', 'step two', 'three', 'step three']);
  });

  it('tells a hook where it is and how it was called', async () => {
    const contexts: HookContext[] = [];
    const curious = pluginOf('curious', {
      hooks: { 'before:shutdown:two': (context) => void contexts.push(context) },
    });
    const { host, fakeLog } = hostOf(shutdownPlugin([]), curious);
    const invocation = { args: ['a'], options: { watch: true } };
    const drain = makeDrain();
    await host.run('shutdown', { invocation });
    await host.run('shutdown', { drain });
    const [called, drained] = contexts;
    assert.equal(called?.command, 'shutdown');
    assert.equal(called?.event, 'two');
    assert.equal(called?.invocation, invocation);
    assert.equal(called?.drain, undefined);
    assert.equal(called?.log, fakeLog.log);
    assert.equal(called?.signal.aborted, false);
    const { failHealth: _f, delay: _d, close: _c, wait: _w, passHealth: _p, ...progress } = drain;
    const seen = drained?.drain ?? assert.fail();
    // What drains is for pm2-envoy itself: a hook can read, and nothing else.
    assert.deepEqual(
      Object.keys(seen).sort(),
      Object.keys(progress)
        .filter((key) => key !== 'enter' && key !== 'confirm')
        .sort(),
    );
    assert.deepEqual([seen.phase, seen.startedAt], [drain.phase, drain.startedAt]);
    assert.throws(() => Object.assign(seen, { outcome: 'drained' }), TypeError);
    assert.deepEqual(drained?.invocation, { args: [], options: {} });
  });

  it('refuses a command that there is not', async () => {
    const { host } = hostOf(shutdownPlugin([]));
    await assert.rejects(host.run('nonsense'), /there is no command nonsense/);
  });

  it('waits for each hook, and stops at the first failure with its name', async () => {
    const notes: string[] = [];
    const slow = async () => {
      await settle();
      notes.push('slow');
    };
    const cause = new Error('no');
    const fails = () => Promise.reject(cause);
    const { host } = hostOf(
      shutdownPlugin(notes),
      pluginOf('a', { hooks: { 'before:shutdown:one': slow, 'before:shutdown:two': fails } }),
      pluginOf('b', { hooks: { 'before:shutdown:two': () => void notes.push('b') } }),
    );
    await assert.rejects(
      host.run('shutdown'),
      (error: Error) =>
        /hook before:shutdown:two of plugin a failed: no/.test(error.message) &&
        error.cause === cause,
    );
    assert.deepEqual(notes, ['slow', 'step one']);
    assert.equal(host.failures.size, 0);
  });

  it('lets an error of a built-in command through as it is', async () => {
    const fault = new Error('mine');
    const own = pluginOf(
      'own',
      {
        commands: { work: command('x') },
        hooks: { 'work:x': () => Promise.reject(fault) },
      },
      { builtIn: true },
    );
    await assert.rejects(hostOf(own).host.run('work'), (error: unknown) => error === fault);
  });

  it('treats a hook that throws immediately like one that fails', async () => {
    const throws = (): void => {
      throw new TypeError('at once');
    };
    const plugin = pluginOf('a', { hooks: { 'shutdown:one': throws } });
    await assert.rejects(hostOf(shutdownPlugin([]), plugin).host.run('shutdown'), /at once/);
  });
});

describe('PluginHost run with time limits', () => {
  beforeEach(() => mock.timers.enable({ apis: ['setTimeout'] }));
  afterEach(() => mock.timers.reset());

  it('ends a strict command whose hook hangs, and aborts the hook’s signal', async () => {
    let signal: AbortSignal | undefined;
    const hangs = (context: HookContext) => {
      ({ signal } = context);
      return never;
    };
    const plugin = pluginOf('a', { hooks: { 'shutdown:one': { run: hangs, timeoutMs: 700 } } });
    const run = hostOf(shutdownPlugin([]), plugin).host.run('shutdown');
    run.catch(() => undefined);
    await settle();
    mock.timers.tick(699);
    assert.equal(signal?.aborted, false);
    mock.timers.tick(1);
    await assert.rejects(run, /hook shutdown:one of plugin a did not end within 700 ms/);
    assert.equal(signal?.aborted, true);
  });

  it('has no time limit for what is built in', async () => {
    const own = pluginOf(
      'own',
      { commands: { work: command('x') }, hooks: { 'work:x': () => never } },
      { builtIn: true },
    );
    let ended = false;
    void hostOf(own)
      .host.run('work')
      .finally(() => {
        ended = true;
      });
    await settle();
    mock.timers.tick(10 * HOOK_TIMEOUT_MS);
    await settle();
    assert.equal(ended, false);
  });

  it('never lets a hook that hangs block a drain', async () => {
    const notes: string[] = [];
    const hangs = { run: () => never };
    const { host } = hostOf(
      shutdownPlugin(notes),
      pluginOf('a', {
        hooks: {
          'before:shutdown:one': hangs,
          'shutdown:one': hangs,
          'after:shutdown:three': hangs,
        },
      }),
    );
    await host.run('shutdown', { drain: makeDrain() });
    assert.deepEqual(notes, ['step one', 'step two', 'step three']);
    assert.equal(host.failures.size, 0);
    mock.timers.tick(HOOK_TIMEOUT_MS - 1);
    await settle();
    assert.equal(host.failures.size, 0);
    mock.timers.tick(1);
    await settle();
    assert.deepEqual(
      [...host.failures],
      [
        ['before:shutdown:one', 1],
        ['shutdown:one', 1],
        ['after:shutdown:three', 1],
      ],
    );
  });

  it('waits in a drain for a required hook before an event', async () => {
    const notes: string[] = [];
    let release: () => void = () => undefined;
    const slow = () => new Promise<void>((resolve) => (release = resolve));
    const { host } = hostOf(
      shutdownPlugin(notes),
      pluginOf('a', { hooks: { 'before:shutdown:two': { run: slow, required: true } } }),
    );
    const run = host.run('shutdown', { drain: makeDrain() });
    await settle();
    assert.deepEqual(notes, ['step one']);
    release();
    await run;
    assert.deepEqual(notes, ['step one', 'step two', 'step three']);
  });

  it('waits for a required hook only up to its time limit', async () => {
    const notes: string[] = [];
    const hook = { run: () => never, required: true, timeoutMs: 3_000 };
    const { host, fakeLog } = hostOf(
      shutdownPlugin(notes),
      pluginOf('a', { hooks: { 'before:shutdown:two': hook } }),
    );
    const run = host.run('shutdown', { drain: makeDrain() });
    await settle();
    mock.timers.tick(2_999);
    await settle();
    assert.deepEqual(notes, ['step one']);
    mock.timers.tick(1);
    await run;
    assert.deepEqual(notes, ['step one', 'step two', 'step three']);
    assert.equal(host.failures.get('before:shutdown:two'), 1);
    assert.match(fakeLog.of('error')[0] ?? '', /plugin a did not end within 3000 ms/);
  });

  it('waits for a required hook no longer than the drain may take', async () => {
    const notes: string[] = [];
    const hook = { run: () => never, required: true, timeoutMs: 60_000 };
    const { host, fakeLog } = hostOf(
      shutdownPlugin(notes),
      pluginOf('a', { hooks: { 'before:shutdown:two': hook } }),
    );
    const run = host.run('shutdown', { drain: { ...makeDrain(), timeLeftMs: () => 2_000 } });
    await settle();
    mock.timers.tick(1_999);
    await settle();
    assert.deepEqual(notes, ['step one']);
    mock.timers.tick(1);
    await run;
    assert.deepEqual(notes, ['step one', 'step two', 'step three']);
    assert.match(
      fakeLog.of('error')[0] ?? '',
      /did not end within 2000 ms, the rest of the drain’s time/,
    );
  });

  it('does not wait for a required hook at or after an event', async () => {
    const notes: string[] = [];
    const hook = { run: () => never, required: true };
    const { host } = hostOf(
      shutdownPlugin(notes),
      pluginOf('a', { hooks: { 'shutdown:one': hook, 'after:shutdown:two': hook } }),
    );
    await host.run('shutdown', { drain: makeDrain() });
    assert.deepEqual(notes, ['step one', 'step two', 'step three']);
  });

  it('settles once hooks under way have ended or are overdue', async () => {
    let release: () => void = () => undefined;
    const slow = () => new Promise<void>((resolve) => (release = resolve));
    const { host } = hostOf(
      shutdownPlugin([]),
      pluginOf('a', {
        hooks: { 'before:shutdown:one': slow, 'shutdown:three': { run: () => never } },
      }),
    );
    await host.run('shutdown', { drain: makeDrain() });
    let settled = false;
    const done = host.settled().then(() => {
      settled = true;
    });
    release();
    await settle();
    assert.equal(settled, false);
    mock.timers.tick(HOOK_TIMEOUT_MS);
    await done;
    assert.equal(settled, true);
  });

  it('settles after 10 s, however long a hook may still take', async () => {
    const slow = { run: () => never, timeoutMs: 10 * HOOK_TIMEOUT_MS };
    const { host } = hostOf(
      shutdownPlugin([]),
      pluginOf('a', { hooks: { 'shutdown:three': slow } }),
    );
    await host.run('shutdown', { drain: makeDrain() });
    let settled = false;
    const done = host.settled().then(() => {
      settled = true;
    });
    await settle();
    mock.timers.tick(HOOK_TIMEOUT_MS - 1);
    await settle();
    assert.equal(settled, false);
    mock.timers.tick(1);
    await done;
    assert.equal(host.failures.size, 0);
  });
});

describe('PluginHost run of a drain', () => {
  it('goes on past hooks that fail, logs and counts each time', async () => {
    const notes: string[] = [];
    const fails = () => Promise.reject(new Error('no'));
    const throws = (): void => {
      throw new Error('at once');
    };
    const { host, fakeLog } = hostOf(
      shutdownPlugin(notes),
      pluginOf('a', {
        hooks: {
          'before:shutdown:one': { run: fails, required: true },
          'shutdown:two': throws,
        },
      }),
      pluginOf('b', { hooks: { 'shutdown:two': fails } }),
    );
    await host.run('shutdown', { drain: makeDrain() });
    await host.settled();
    assert.deepEqual(notes, ['step one', 'step two', 'step three']);
    assert.equal(host.failures.get('before:shutdown:one'), 1);
    assert.equal(host.failures.get('shutdown:two'), 2);
    assert.equal(fakeLog.of('error').length, 3);
    assert.match(fakeLog.of('error').join('\n'), /plugin a failed: at once/);
    await host.run('shutdown', { drain: makeDrain() });
    await host.settled();
    assert.equal(host.failures.get('shutdown:two'), 4);
  });

  it('goes on just so without a drain where the call says so, and waits for what is required', async () => {
    const notes: string[] = [];
    const noted = async () => {
      await settle();
      notes.push('required');
    };
    const { host, fakeLog } = hostOf(
      pluginOf('own', { commands: { start: command('live') } }, { builtIn: true }),
      pluginOf('a', {
        hooks: {
          'before:start:live': { run: noted, required: true },
          'start:live': () => Promise.reject(new Error('no')),
          'after:start:live': ({ drain }) => void notes.push(`drain: ${drain}`),
        },
      }),
    );
    await host.run('start', { goesOn: true });
    await host.settled();
    assert.deepEqual(notes, ['required', 'drain: undefined']);
    assert.deepEqual([...host.failures], [['start:live', 1]]);
    assert.match(fakeLog.of('error')[0] ?? '', /hook start:live of plugin a failed: no/);
  });

  it('goes on past a step of its own that fails', async () => {
    const notes: string[] = [];
    const own = pluginOf(
      'own',
      {
        commands: { shutdown: command('one', 'two') },
        hooks: {
          'shutdown:one': () => Promise.reject(new Error('a fault of ours')),
          'shutdown:two': () => void notes.push('two'),
        },
      },
      { builtIn: true },
    );
    const { host } = hostOf(own);
    await host.run('shutdown', { drain: makeDrain() });
    assert.deepEqual(notes, ['two']);
    assert.equal(host.failures.get('shutdown:one'), 1);
  });

  it('settles immediately where no hook is under way', async () => {
    const { host } = hostOf(shutdownPlugin([]));
    await host.settled();
    await host.run('shutdown', { drain: makeDrain() });
    await host.settled();
    assert.equal(host.failures.size, 0);
  });
});
