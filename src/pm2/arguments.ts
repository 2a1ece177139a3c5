import cluster from 'node:cluster';

/**
 * The arguments of this app. A worker of pm2's cluster mode is given the daemon's own arguments first
 * (`pm2-runtime start …`), then the app's, which pm2 also sets, joined by commas, as the variable
 * `args` (pm2's ProcessContainer.js).
 */
export function appArguments(
  argv: readonly string[] = process.argv.slice(2),
  joined: string | undefined = process.env['args'],
  isWorker: boolean = cluster.isWorker,
): string[] {
  if (!isWorker) return [...argv];
  if (joined === undefined || joined === '') return [];
  for (let count = 1; count <= argv.length; count += 1) {
    const tail = argv.slice(-count);
    if (tail.join(',') === joined) return tail;
  }
  return [];
}
