import type { Io } from '../terminal/io.js';

const APART_MS = 10_000;

/** Shows how a download through pip goes on: in one line on a terminal, elsewhere in a line now and then. */
export function createDownload({
  live,
  note,
  isTerminal,
}: Pick<Io, 'live' | 'note' | 'isTerminal'>): (bytes: number) => void {
  let saidAtMs = Number.NEGATIVE_INFINITY;
  return (bytes) => {
    const nowMs = Date.now();
    if (!isTerminal && nowMs - saidAtMs < APART_MS) return;
    saidAtMs = nowMs;
    const text = `downloading Envoy with pip: ${Math.round(bytes / 1_000_000)} of about 40 MB`;
    if (isTerminal) live(text);
    else note(text);
  };
}
