import { readFileSync, writeFileSync } from 'node:fs';
import { messageOf } from '../errors.js';
import type { Log } from '../log.js';

const SETTING = 'net.ipv4.tcp_migrate_req';
const FILE = '/proc/sys/net/ipv4/tcp_migrate_req';

/**
 * Whether connections that wait in the accept queue of a closing listener go to the other generation
 * on its port (`net.ipv4.tcp_migrate_req`, of this network namespace). Undefined where the kernel has
 * no such setting: other systems, and Linux before 5.14.
 */
export function migratesAcceptQueues(file: string = FILE): boolean | undefined {
  try {
    return readFileSync(file, 'utf8').trim() === '1';
  } catch {
    return undefined;
  }
}

/**
 * Sets `net.ipv4.tcp_migrate_req`, so that a hand-over resets no connection that Envoy has not
 * accepted yet. Where that is not permitted, says what it costs and what to do.
 */
export function migrateAcceptQueues(log: Log, file: string = FILE): void {
  const migrates = migratesAcceptQueues(file);
  if (migrates === true || process.platform !== 'linux') return;
  try {
    if (migrates === undefined) throw new Error('this kernel does not have it, Linux 5.14 has');
    writeFileSync(file, '1\n');
    log.info(`${SETTING} is 1 now: a hand-over passes on the connections in an accept queue`);
  } catch (error) {
    log.warn(
      `${SETTING} can't be set (${messageOf(error)}): a reload may reset about one new connection in ten thousand; as root, run sysctl -w ${SETTING}=1`,
    );
  }
}
