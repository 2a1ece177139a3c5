import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { WebSocket } from 'ws';
import { patiently } from './wait.js';

/** Memory of a process that is resident, in MiB. */
export function residentMb(pid: number): number {
  const kb = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return Number(kb) / 1_024;
}

/**
 * Has a Node process collect its garbage, through its inspector: without that, the memory of one that
 * has little to do says more about when V8 last collected than about what is kept.
 *
 * @param output of the process, which tells where its inspector listens (9229, or the `--inspect-port`
 *   in NODE_OPTIONS)
 */
export async function collectGarbage(pid: number, output: () => string): Promise<void> {
  process.kill(pid, 'SIGUSR1');
  const url = await patiently('the inspector to listen', () => {
    return /Debugger listening on (ws:\S+)/.exec(output())?.[1];
  });
  const socket = new WebSocket(url);
  await once(socket, 'open');
  // The first one only finds some of what weak references held.
  for (const id of [1, 2]) {
    const answered = once(socket, 'message');
    socket.send(JSON.stringify({ id, method: 'HeapProfiler.collectGarbage' }));
    await answered;
  }
  socket.terminate();
}
