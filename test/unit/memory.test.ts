import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, it } from 'node:test';
import {
  endLikeThis,
  memoryRoom,
  outOfMemoryKills,
  outOfMemorySince,
  ownMemoryBytes,
  startEndedFirst,
} from '../../src/host/memory.js';
import { makeTempFolder } from './fakes.js';

const MB = 2 ** 20;

/** A machine's /proc and /sys, by path. */
function machine(files: Readonly<Record<string, string | number>>): string {
  const root = makeTempFolder();
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), `${content}\n`);
  }
  return root;
}

const MEMINFO = { 'proc/meminfo': 'MemTotal: 16000000 kB\nMemAvailable:   8192000 kB' };
const V2 = {
  ...MEMINFO,
  'proc/self/cgroup': '0::/system.slice/pm2.service',
  'proc/self/mountinfo': '35 30 0:31 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate',
};
const V1 = {
  ...MEMINFO,
  'proc/self/cgroup': '5:cpu,cpuacct:/\n4:memory:/docker/abc\n0::/',
  'proc/self/mountinfo':
    '40 30 0:35 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n41 30 0:36 / /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu,cpuacct',
};

describe('memoryRoom', () => {
  it('is the machine’s where no cgroup has a limit', () => {
    const room = { leftBytes: 8_000 * MB, limit: 'this machine' };
    assert.deepEqual(memoryRoom(undefined, machine(MEMINFO)), room);
    const at = 'sys/fs/cgroup/system.slice/pm2.service';
    assert.deepEqual(
      memoryRoom(
        undefined,
        machine({ ...V2, [`${at}/memory.max`]: 'max', [`${at}/memory.current`]: 5 }),
      ),
      room,
    );
  });

  it('is undefined where nothing can be read', () => {
    assert.equal(memoryRoom(undefined, machine({})), undefined);
  });

  it('is what the cgroup leaves (v2), the page cache given back', () => {
    const at = 'sys/fs/cgroup/system.slice/pm2.service/memory';
    const root = machine({
      ...V2,
      [`${at}.max`]: 1000 * MB,
      [`${at}.current`]: 900 * MB,
      [`${at}.stat`]: `anon 1\ninactive_file ${50 * MB}\nactive_file ${20 * MB}`,
    });
    const expected = { leftBytes: 170 * MB, limit: 'the memory limit of 1000 MiB' };
    assert.deepEqual(memoryRoom(undefined, root), expected);
  });

  it('says where the kernel ends all of a cgroup when memory runs out, as in Kubernetes', () => {
    const at = 'sys/fs/cgroup/memory';
    const pod = {
      ...MEMINFO,
      'proc/self/cgroup': '0::/',
      'proc/self/mountinfo': '35 30 0:31 / /sys/fs/cgroup ro - cgroup2 cgroup rw,nsdelegate',
      [`${at}.max`]: 512 * MB,
      [`${at}.current`]: 500 * MB,
    };
    const room = { leftBytes: 12 * MB, limit: 'the memory limit of 512 MiB' };
    assert.deepEqual(memoryRoom(undefined, machine({ ...pod, [`${at}.oom.group`]: 0 })), room);
    assert.deepEqual(memoryRoom(undefined, machine({ ...pod, [`${at}.oom.group`]: 1 })), {
      ...room,
      endsAll: true,
    });
  });

  it('is that of a cgroup above, where that one leaves less', () => {
    const root = machine({
      ...V2,
      'sys/fs/cgroup/system.slice/pm2.service/memory.max': 1000 * MB,
      'sys/fs/cgroup/system.slice/pm2.service/memory.current': 100 * MB,
      'sys/fs/cgroup/system.slice/memory.max': 500 * MB,
      'sys/fs/cgroup/system.slice/memory.current': 450 * MB,
    });
    const expected = { leftBytes: 50 * MB, limit: 'the memory limit of 500 MiB' };
    assert.deepEqual(memoryRoom(undefined, root), expected);
  });

  it('is what the cgroup leaves (v1), in a container that sees only its own', () => {
    const at = 'sys/fs/cgroup/memory/memory';
    const root = machine({
      ...V1,
      [`${at}.limit_in_bytes`]: 512 * MB,
      [`${at}.usage_in_bytes`]: 500 * MB,
      [`${at}.stat`]: `cache 1\ntotal_inactive_file ${8 * MB}`,
    });
    const expected = { leftBytes: 20 * MB, limit: 'the memory limit of 512 MiB' };
    assert.deepEqual(memoryRoom(undefined, root), expected);
    const unlimited = machine({
      ...V1,
      [`${at}.limit_in_bytes`]: '9223372036854771712',
      [`${at}.usage_in_bytes`]: 5,
    });
    assert.equal(memoryRoom(undefined, unlimited)?.limit, 'this machine');
  });
});

describe('memoryRoom of another process', () => {
  it('is what both leave', () => {
    const root = machine({
      ...V2,
      'proc/7/cgroup': '0::/other.slice',
      'sys/fs/cgroup/other.slice/memory.max': 300 * MB,
      'sys/fs/cgroup/other.slice/memory.current': 290 * MB,
    });
    assert.equal(memoryRoom(undefined, root)?.limit, 'this machine');
    assert.equal(memoryRoom(7, root)?.leftBytes, 10 * MB);
  });
});

describe('outOfMemoryKills', () => {
  it('is what the own cgroup counts, v2 and v1, or the machine', () => {
    const v2 = 'sys/fs/cgroup/system.slice/pm2.service/memory.events';
    assert.equal(outOfMemoryKills(machine({ ...V2, [v2]: 'low 0\noom 4\noom_kill 3' })), 3);
    const v1 = 'sys/fs/cgroup/memory/memory.oom_control';
    assert.equal(
      outOfMemoryKills(machine({ ...V1, [v1]: 'oom_kill_disable 0\nunder_oom 0\noom_kill 2' })),
      2,
    );
    assert.equal(outOfMemoryKills(machine({ 'proc/vmstat': 'nr_free 1\noom_kill 7' })), 7);
    assert.equal(outOfMemoryKills(machine({})), undefined);
  });

  it('is named once it has grown', () => {
    const root = machine({
      ...V2,
      'sys/fs/cgroup/system.slice/pm2.service/memory.events': 'oom_kill 3',
      'sys/fs/cgroup/system.slice/memory.max': 500 * MB,
      'sys/fs/cgroup/system.slice/memory.current': 450 * MB,
    });
    assert.equal(outOfMemorySince(3, root), '');
    assert.equal(outOfMemorySince(undefined, root), '');
    assert.equal(
      outOfMemorySince(2, root),
      ': memory ran out (the memory limit of 500 MiB), and the kernel ended it',
    );
  });
});

describe('ownMemoryBytes', () => {
  it('leaves the page cache out where the kernel tells it apart', () => {
    const root = machine({
      'proc/7/status': 'Name: envoy\nVmRSS:\t  90000 kB\nRssAnon:\t  51200 kB',
      'proc/8/status': 'Name: envoy\nVmRSS:\t  1024 kB',
    });
    assert.equal(ownMemoryBytes(7, root), 50 * MB);
    assert.equal(ownMemoryBytes(8, root), MB);
    assert.equal(ownMemoryBytes(9, root), undefined);
  });
});

describe('startEndedFirst', () => {
  const scoreIn = (root: string, process: string): string =>
    readFileSync(join(root, `proc/${process}/oom_score_adj`), 'utf8');

  it('has the kernel choose what is started, from its birth, until it is as this process', () => {
    const root = machine({ 'proc/self/oom_score_adj': 800, 'proc/7/oom_score_adj': 1000 });
    assert.equal(
      startEndedFirst(() => scoreIn(root, 'self'), root),
      '1000',
    );
    assert.equal(scoreIn(root, 'self'), '800');
    endLikeThis([7, 9], root);
    assert.equal(scoreIn(root, '7'), '800');
  });

  it('leaves this process as it was when the start fails, and starts where there is no such file', () => {
    const root = machine({ 'proc/self/oom_score_adj': 0 });
    const fail = (): never => assert.fail('no such program');
    assert.throws(() => startEndedFirst(fail, root), /no such program/);
    assert.equal(scoreIn(root, 'self'), '0');
    assert.equal(
      startEndedFirst(() => 'started', machine({})),
      'started',
    );
  });
});
