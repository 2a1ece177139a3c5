import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { pm2Home } from './supervisor.js';

/**
 * Tells, once the channel to pm2 is closed, whether pm2 has ended in good order: it removes its pid file then, which
 * one that was killed does not. An app that is still there was started behind its back, in the middle of its end.
 *
 * @param parent process id of the daemon that has started this process
 */
export function watchDaemonEnd(
  home: string = pm2Home(),
  parent: number = process.ppid,
): () => boolean {
  const file = join(home, 'pm2.pid');
  const isOwn = readPid(file) === parent;
  return () => isOwn && !existsSync(file);
}

function readPid(file: string): number | undefined {
  try {
    return Number(readFileSync(file, 'utf8'));
  } catch {
    return undefined;
  }
}

/** Major version of the pm2 that runs this process, whose main module is pm2's own; the newest where it can't be told. */
export function daemonVersion(container: string = process.mainModule?.filename ?? ''): number {
  try {
    const manifest = readFileSync(join(dirname(dirname(container)), 'package.json'), 'utf8');
    const { name, version } = JSON.parse(manifest);
    return name === 'pm2' ? Number.parseInt(version, 10) : Number.POSITIVE_INFINITY;
  } catch {
    return Number.POSITIVE_INFINITY;
  }
}
