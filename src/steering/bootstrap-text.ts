import { readFileSync } from 'node:fs';

const MAY_BE_UDP = /udp|quic|protocol["']?\s*:\s*["']?1\b/i;

/** The text of a bootstrap file; undefined: it can't be read. */
export function readText(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}

/** Whether a bootstrap may have UDP listeners: most have none of it, and need not be parsed for that. */
export function mayHaveUdp(file: string): boolean {
  return MAY_BE_UDP.test(readText(file) ?? '');
}
