import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import {
  bootstrapCopyOf,
  type Generation,
  isAttended,
  isRunBy,
  newestOf,
  openGenerations,
  predecessorsOf,
  successorsOf,
} from '../../src/host/generations.js';
import { identify, ownIdentity, type ProcessIdentity } from '../../src/host/process-identity.js';
import { deadIdentity, makeTempFolder } from './fakes.js';

const me = ownIdentity();

/** A run directory with generations by number: whose Envoy lives, or not. */
function runDirWith(...made: Partial<Generation>[]): {
  runDir: string;
  generations: ReturnType<typeof openGenerations>;
} {
  const runDir = makeTempFolder();
  const generations = openGenerations(runDir);
  for (const more of made) {
    const slot = generations.reserve();
    generations.write({
      ...slot,
      envoy: me,
      runner: me,
      startedAt: '2026-01-01T00:00:00.000Z',
      supervisor: undefined,
      version: undefined,
      launch: undefined,
      ready: true,
      orphaned: false,
      ...more,
    });
  }
  return { runDir, generations };
}

const ended: Partial<Generation> = { envoy: deadIdentity };

function numbersOf(list: readonly Generation[]): number[] {
  return list.map(({ number }) => number);
}

describe('openGenerations reserve', () => {
  it('counts up from 1, each in a private folder of its own', () => {
    const { runDir, generations } = runDirWith();
    const slots = [generations.reserve(), generations.reserve(), generations.reserve()];
    assert.deepEqual(
      slots.map(({ number }) => number),
      [1, 2, 3],
    );
    for (const { number, directory, adminSocket } of slots) {
      assert.equal(directory, join(runDir, 'generations', String(number)));
      assert.equal(adminSocket, join(directory, 'admin.sock'));
      assert.equal(statSync(directory).mode & 0o777, 0o700);
    }
  });

  it('goes on behind 9 and 10, and never uses a number again', () => {
    const { generations } = runDirWith(...Array(10).fill(ended));
    assert.equal(generations.reserve().number, 11);
    generations.prune();
    assert.equal(generations.reserve().number, 12);
  });

  it('gives two that share a run directory different numbers', () => {
    const { runDir, generations } = runDirWith({});
    const other = openGenerations(runDir);
    assert.equal(generations.reserve().number, 2);
    assert.equal(other.reserve().number, 3);
    assert.equal(generations.reserve().number, 4);
  });

  it('passes over files and folders that are no generation', () => {
    const { runDir, generations } = runDirWith({});
    for (const name of ['99x', '-7', 'x', '2.draft', '1e3']) {
      mkdirSync(join(runDir, 'generations', name));
    }
    assert.deepEqual(numbersOf(generations.live()), [1]);
    assert.equal(generations.reserve().number, 2);
  });
});

describe('openGenerations live', () => {
  it('is empty where there is no run directory, or nothing in it', () => {
    assert.deepEqual(openGenerations('/nowhere/at/all').live(), []);
    assert.equal(openGenerations('/nowhere/at/all').newest(), undefined);
    assert.deepEqual(runDirWith().generations.live(), []);
  });

  it('lists those whose Envoy lives, oldest first, by number and not by text', () => {
    const { generations } = runDirWith({}, ended, ...Array(7).fill(ended), {}, {});
    assert.deepEqual(numbersOf(generations.live()), [1, 10, 11]);
  });

  it('takes another process with the pid of an Envoy for no Envoy', () => {
    const { generations } = runDirWith({ envoy: { pid: process.pid, startTime: 'earlier' } });
    assert.deepEqual(generations.live(), []);
  });

  it('follows an Envoy that ends', async () => {
    const child = spawn('sleep', ['60'], { stdio: 'ignore' });
    await once(child, 'spawn');
    const envoy = identify(child.pid ?? 0) ?? assert.fail();
    const { generations } = runDirWith({ envoy });
    assert.equal(generations.live().length, 1);
    child.kill('SIGKILL');
    await once(child, 'exit');
    assert.deepEqual(generations.live(), []);
  });

  it('gives back what was written', () => {
    const runner: ProcessIdentity = { pid: 77, startTime: 'x' };
    const { generations } = runDirWith({ runner, ready: false, orphaned: true });
    const [generation = assert.fail()] = generations.live();
    assert.deepEqual(generation.runner, runner);
    assert.deepEqual(generation.envoy, me);
    assert.equal(generation.ready, false);
    assert.equal(generation.orphaned, true);
    generations.write({ ...generation, runner: me, orphaned: false, ready: true });
    const [changed = assert.fail()] = generations.live();
    assert.deepEqual(changed, { ...generation, runner: me, orphaned: false, ready: true });
  });

  it('believes the folder about its number, not the file in it', () => {
    const { runDir, generations } = runDirWith({});
    const [generation = assert.fail()] = generations.live();
    const { directory, number } = generation;
    const moved = { ...generation, number: 42, directory: '/elsewhere' };
    writeFileSync(join(directory, 'generation.json'), JSON.stringify(moved));
    const [found = assert.fail()] = openGenerations(runDir).live();
    assert.equal(found.number, number);
    assert.equal(found.directory, directory);
  });

  for (const content of ['', '{', 'null', '[]', '{"envoy": 5}', '{"envoy": {"pid": "1"}}']) {
    it(`passes over a generation whose file holds ${JSON.stringify(content)}`, () => {
      const { runDir, generations } = runDirWith({});
      const { directory } = generations.reserve();
      writeFileSync(join(directory, 'generation.json'), content);
      assert.deepEqual(numbersOf(openGenerations(runDir).live()), [1]);
    });
  }

  it('finds an Envoy that is not written down yet: unattended once its runner is dead', async () => {
    const { generations } = runDirWith();
    const { number, adminSocket, directory } = generations.reserve();
    const child = spawn('sleep', ['60'], {
      argv0: `envoy {"pipe":{"path":"${adminSocket}","mode":384}}`,
      stdio: 'ignore',
    });
    after(() => child.kill('SIGKILL'));
    await once(child, 'spawn');
    const [found = assert.fail()] = generations.live();
    assert.equal(found.number, number);
    assert.deepEqual(found.envoy, identify(child.pid ?? 0));
    assert.equal(found.ready, false);
    assert.equal(isAttended(found), true, 'the runner that reserved the folder is about to');
    writeFileSync(join(directory, 'runner.json'), JSON.stringify({ ...me, startTime: 'another' }));
    const [orphan = assert.fail()] = generations.live();
    assert.equal(isAttended(orphan), false);
  });
});

describe('newestOf', () => {
  const numbered = (number: number, ready: boolean): Generation => ({
    number,
    directory: '',
    adminSocket: '',
    envoy: me,
    runner: me,
    startedAt: '',
    ready,
    supervisor: undefined,
    version: undefined,
    launch: undefined,
    orphaned: false,
  });

  it('is the latest that has been LIVE', () => {
    const live = [numbered(1, true), numbered(2, true), numbered(3, false)];
    assert.equal(newestOf(live)?.number, 2);
  });

  it('is the latest of all while none has been LIVE', () => {
    assert.equal(newestOf([numbered(1, false), numbered(2, false)])?.number, 2);
  });

  it('is no one without generations', () => {
    assert.equal(newestOf([]), undefined);
  });

  it('passes over an ended generation in the run directory', () => {
    const { generations } = runDirWith({}, {}, ended);
    assert.equal(generations.newest()?.number, 2);
  });
});

describe('openGenerations prune', () => {
  it('removes ended generations but the newest of them', () => {
    const { runDir, generations } = runDirWith(ended, ended, {}, ended, ended, {});
    generations.prune();
    const left = [1, 2, 3, 4, 5, 6].filter((n) => existsSync(join(runDir, 'generations', `${n}`)));
    assert.deepEqual(left, [3, 5, 6]);
  });

  it('keeps how the only one that has ended did so', () => {
    const { runDir, generations } = runDirWith(ended);
    writeFileSync(join(runDir, 'generations', '1', 'shutdown.json'), '{}');
    generations.prune();
    generations.prune();
    assert.ok(existsSync(join(runDir, 'generations', '1', 'shutdown.json')));
  });

  it('keeps a folder that was reserved just now for an Envoy that is about to start', () => {
    const { runDir, generations } = runDirWith();
    const { directory } = generations.reserve();
    for (let i = 0; i < 2; i += 1) {
      generations.write({
        ...generations.reserve(),
        envoy: deadIdentity,
        runner: me,
        startedAt: '2026-01-01T00:00:00.000Z',
        supervisor: undefined,
        version: undefined,
        launch: undefined,
        ready: true,
        orphaned: false,
      });
    }
    openGenerations(runDir).prune();
    const left = [1, 2, 3].filter((n) => existsSync(join(runDir, 'generations', `${n}`)));
    assert.deepEqual(left, [1, 3]);
    assert.ok(existsSync(directory));
  });

  it('removes a folder that was reserved by a runner that is dead, but not the newest one', () => {
    const { runDir, generations } = runDirWith();
    const folders = [generations.reserve(), generations.reserve(), generations.reserve()];
    for (const index of [0, 2]) {
      const file = join(folders[index]?.directory ?? '', 'runner.json');
      writeFileSync(file, JSON.stringify({ ...me, startTime: 'another' }));
    }
    openGenerations(runDir).prune();
    assert.deepEqual(
      folders.map(({ directory }) => existsSync(directory)),
      [false, true, true],
    );
  });

  it('does nothing where there is nothing', () => {
    assert.doesNotThrow(() => openGenerations('/nowhere/at/all').prune());
  });
});

describe('isAttended', () => {
  const attended = (more: Partial<Generation>): boolean =>
    isAttended(runDirWith(more).generations.live()[0] ?? assert.fail());

  it('holds while the runner lives and has not lost pm2', () => {
    assert.equal(attended({}), true);
    assert.equal(attended({ orphaned: true }), false);
    assert.equal(attended({ runner: deadIdentity }), false);
  });
});

describe('isRunBy', () => {
  it('goes by what the run directory says now', () => {
    const { generations } = runDirWith({});
    const [generation = assert.fail()] = generations.live();
    const other = { pid: 77, startTime: 'x' };
    assert.equal(isRunBy(generation, me), true);
    assert.equal(isRunBy(generation, other), false);
    generations.write({ ...generation, runner: other });
    assert.equal(isRunBy(generation, me), false);
    assert.equal(isRunBy(generation, other), true);
  });

  it('holds where the run directory says nothing', () => {
    const { generations } = runDirWith({});
    const [generation = assert.fail()] = generations.live();
    assert.equal(isRunBy({ ...generation, directory: '/nowhere' }, me), true);
    for (const content of ['', 'null', '5', '[]']) {
      writeFileSync(join(generation.directory, 'generation.json'), content);
      assert.equal(isRunBy(generation, me), true, content);
    }
  });
});

describe('predecessorsOf', () => {
  it('lists the earlier ones whose Envoy lives, with any runner', () => {
    const { generations } = runDirWith({ runner: deadIdentity }, ended, { orphaned: true }, {}, {});
    const own = generations.live().find(({ number }) => number === 4) ?? assert.fail();
    assert.deepEqual(numbersOf(predecessorsOf(own, generations)), [1, 3]);
  });

  it('is empty for the first', () => {
    const { generations } = runDirWith({}, {});
    const [first = assert.fail()] = generations.live();
    assert.deepEqual(predecessorsOf(first, generations), []);
  });
});

describe('successorsOf', () => {
  const successors = (...made: Partial<Generation>[]): number[] => {
    const { generations } = runDirWith({}, ...made);
    const [own = assert.fail()] = generations.live();
    return numbersOf(successorsOf(own, generations));
  };

  for (const [what, made, numbers] of [
    ['a LIVE one', [{}], [2]],
    ['one that is still starting', [{ ready: false }], [2]],
    ['several, oldest first', [{}, { ready: false }], [2, 3]],
    ['none whose Envoy has ended', [ended], []],
    ['none whose runner has died', [{ runner: deadIdentity }], []],
    ['also one whose runner has lost pm2: it serves', [{ orphaned: true }], [2]],
  ] as [string, Partial<Generation>[], number[]][]) {
    it(`lists ${what}`, () => assert.deepEqual(successors(...made), numbers));
  }

  it('does not list the generation itself or an earlier one', () => {
    const { generations } = runDirWith({}, {});
    const own = generations.live().at(-1) ?? assert.fail();
    assert.deepEqual(successorsOf(own, generations), []);
  });
});

describe('what a redeploy reads of a generation', () => {
  it('is what it was started with, its version, and why the latest reload failed', () => {
    const launch = {
      binary: '/opt/envoy',
      bootstrap: '/etc/envoy.yaml',
      args: ['-l', 'debug'],
      drainTimeMs: 600_000,
    };
    const supervisor = { home: '/srv/pm2', app: 'envoy', folder: '/srv' };
    const failedReload = { at: '2026-01-02T03:04:05.678Z', reason: 'no such file' };
    const { generations } = runDirWith({ version: '1.40.0', launch, supervisor, failedReload });
    const { version, ...read } = generations.live()[0] ?? assert.fail();
    assert.equal(version, '1.40.0');
    assert.deepEqual(read.launch, launch);
    assert.deepEqual(read.supervisor, supervisor);
    assert.deepEqual(read.failedReload, failedReload);
  });

  it('may be missing, as with a generation of an earlier version', () => {
    const { generations } = runDirWith({});
    const [{ version, launch, supervisor, failedReload } = assert.fail()] = generations.live();
    const read = { version, launch, supervisor, failedReload };
    assert.deepEqual(Object.values(read), Array(4).fill(undefined));
  });

  it('has a copy of its bootstrap, which goes with its folder', () => {
    const { runDir, generations } = runDirWith(ended, ended);
    const directory = join(runDir, 'generations', '1');
    const copy = bootstrapCopyOf({ number: 1, directory, adminSocket: '' });
    writeFileSync(copy, 'static_resources: {}');
    generations.prune();
    assert.equal(existsSync(copy), false);
  });
});
