import { readText } from '../host/files.js';

const MAY_BE_UDP = /udp|quic|protocol["']?\s*:\s*["']?1\b/i;

/** Whether a bootstrap may have UDP listeners: most have none of it, and need not be parsed for that. */
export function mayHaveUdp(file: string): boolean {
  return MAY_BE_UDP.test(readText(file) ?? '');
}
