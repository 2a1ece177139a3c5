const UNITS_MS: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
};
const PART = /(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)/gy;

/** Longest time that a Node timer takes (2^31 - 1 ms, 24.8 days). */
export const LONGEST_MS: number = 2 ** 31 - 1;

/**
 * Reads a duration as Go writes it: `5s`, `1m30s`, `500ms`, `1.5h`; `0` needs no unit in Go, but does
 * here. Negative durations are refused.
 *
 * @returns milliseconds
 * @throws Error with the reason and, for a bare number, what was probably meant
 */
export function parseDuration(text: unknown): number {
  if (typeof text !== 'string') {
    throw new Error(`must be a duration with a unit, such as 5s, 1m30s or 500ms${hint(text)}`);
  }
  const trimmed = text.trim();
  let totalMs = 0;
  let end = 0;
  PART.lastIndex = 0;
  for (let part = PART.exec(trimmed); part; part = PART.exec(trimmed)) {
    totalMs += Number(part[1]) * (UNITS_MS[part[2] ?? ''] ?? Number.NaN);
    end = PART.lastIndex;
  }
  if (end === 0 || end !== trimmed.length) {
    throw new Error(`must be a duration with a unit, such as 5s, 1m30s or 500ms${hint(trimmed)}`);
  }
  // Sums of decimal fractions: 1.001s is 1001 ms, not 1000.9999999999999.
  totalMs = Number(totalMs.toFixed(6));
  if (totalMs > LONGEST_MS) throw new Error('must be at most 596h (24 days)');
  return totalMs;
}

/** Writes milliseconds as Go would: `1m30s`, `500ms`, `0s`. */
export function formatDuration(ms: number): string {
  if (ms === 0) return '0s';
  if (ms < 1_000) return `${Number(ms.toFixed(3))}ms`;
  const hours = Math.floor(ms / 3_600_000);
  const minutes = Math.floor((ms % 3_600_000) / 60_000);
  const seconds = Number(((ms % 60_000) / 1_000).toFixed(3));
  return `${hours > 0 ? `${hours}h` : ''}${minutes > 0 ? `${minutes}m` : ''}${seconds > 0 ? `${seconds}s` : ''}`;
}

/** For a bare number: the same in seconds. Go has no exponents, so `1e+21s` would be refused as well. */
function hint(value: unknown): string {
  if (typeof value !== 'number' && typeof value !== 'string') return '';
  const isBare = /^(\d+\.?\d*|\.\d+)$/.test(String(value));
  return isBare ? ` (did you mean ${JSON.stringify(`${value}s`)}?)` : '';
}
