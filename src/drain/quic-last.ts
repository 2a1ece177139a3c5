import type { Clock } from '../clock.js';
import type { Envoys } from './envoys.js';

const POLL_MS = 200;
/** What is kept of the time for the requests of HTTP/3, once its listeners have been closed. */
const FOR_QUIC_MS = 10_000;

/**
 * Where HTTP/3 can't be steered: closes the TCP listeners alone, and waits until their connections have ended.
 * All of the port's packets are the old Envoy's until it has ended (docs/facts/envoy.md, QUIC), so it goes on
 * taking new HTTP/3 connections meanwhile.
 */
export async function closeTcpFirst(options: {
  envoys: Envoys;
  isOver: () => boolean;
  timeLeftMs: () => number;
  minOpenConnections: number;
  clock: Clock;
}): Promise<void> {
  const { envoys, isOver, timeLeftMs, minOpenConnections, clock } = options;
  await envoys.tellAll('ask its TCP clients to leave', (admin, signal) =>
    admin.askInboundToLeave(signal),
  );
  await envoys.tellAll('close its TCP listeners', (admin, signal) => admin.closeInbound(signal));
  const forTcpMs = timeLeftMs() - Math.min(FOR_QUIC_MS, timeLeftMs() / 2);
  const endMs = clock.nowMs() + forTcpMs;
  while (!isOver() && clock.nowMs() < endMs) {
    const sample = await envoys.sample();
    if (sample.kind === 'gone') return;
    if (sample.kind === 'known' && sample.open - sample.socketless <= minOpenConnections) return;
    await clock.sleep(Math.min(POLL_MS, endMs - clock.nowMs()));
  }
}
