import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { migratesAcceptQueues } from '../../src/host/accept-queue.js';
import { inARow, QUICK } from '../support/under-load.js';

/** Set in the run of this file inside the namespaces. */
const INSIDE = 'TEST_INSIDE_NAMESPACES';
const LIMIT_MS = 8 * 60_000;

/** Brings up the loopback interface, and makes the settings of the kernel read-only; then runs "$@". */
const ENTER = `set -e
if command -v ip >/dev/null; then ip link set lo up; else python3 -c '
import fcntl, socket, struct
fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sh22x", b"lo", 0x1))'; fi
mount --bind -o ro /proc/sys /proc/sys
mount -o remount,ro,bind /proc/sys
exec "$@"`;

/**
 * `tcp_migrate_req` is a setting of a network namespace, so the whole test runs in one of its own,
 * where it has its default of 0, and in a mount namespace that has /proc/sys read-only: the runner
 * can't change it then, and the machine's own setting stays as it is.
 */
describe('where net.ipv4.tcp_migrate_req is 0 and can not be set', () => {
  if (process.env[INSIDE]) {
    it('ten reloads lose at most one request in 1,000', async (t) => {
      await inARow(t, 'reload', { settings: QUICK, rounds: 10 });
      assert.equal(migratesAcceptQueues(), false);
    });
    return;
  }
  it('ten reloads lose at most one request in 1,000, in namespaces of their own', (t) => {
    const { NODE_TEST_CONTEXT: _, ...env } = process.env;
    const isRoot = process.getuid?.() === 0;
    const { status, stdout, stderr } = spawnSync(
      'unshare',
      [
        ...['--net', '--mount', ...(isRoot ? [] : ['--user', '--map-root-user'])],
        ...['sh', '-c', ENTER, 'sh', process.execPath, '--import', import.meta.resolve('tsx')],
        ...['--test', '--test-reporter', 'spec', fileURLToPath(import.meta.url)],
      ],
      {
        env: { ...env, [INSIDE]: '1' },
        encoding: 'utf8',
        timeout: LIMIT_MS,
        killSignal: 'SIGKILL',
      },
    );
    for (const line of stdout.split('\n'))
      if (/requests|tcp_migrate_req/.test(line)) t.diagnostic(line);
    assert.equal(status, 0, stdout + stderr);
  });
});
