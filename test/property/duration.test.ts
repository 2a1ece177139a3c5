import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { formatDuration, LONGEST_MS, parseDuration } from '../../src/config/duration.js';
import { messageOf } from '../../src/errors.js';
import { holds } from './check.js';

const wholeMs = fc.oneof(
  fc.nat(LONGEST_MS),
  fc.nat(120_000),
  fc.nat(596).map((hours) => hours * 3_600_000),
  fc.constant(LONGEST_MS),
);

/** Nearly durations: what Go's grammar is made of, and what is close to it. */
const nearly = fc
  .array(
    fc.oneof(
      fc.nat(99).map(String),
      fc.constantFrom('h', 'm', 's', 'ms', 'us', 'µs', 'ns', '.', '.5', '00', '0.001'),
      fc.constantFrom('+', '-', ' ', 'e', ',', 'd', 'H', '\n', '٥', '9'.repeat(30)),
    ),
    { maxLength: 8 },
  )
  .map((pieces) => pieces.join(''));

describe('parseDuration and formatDuration', () => {
  it('give every whole number of milliseconds back', () => {
    holds(
      fc.property(wholeMs, (ms) => {
        assert.equal(parseDuration(formatDuration(ms)), ms);
      }),
      3_000,
    );
  });
});

describe('parseDuration', () => {
  it('reads what Go writes', () => {
    holds(
      fc.property(wholeMs, (ms) => {
        assert.equal(parseDuration(goString(ms)), ms);
      }),
    );
  });

  it('takes a text as Go does, but for signs and a zero without a unit', () => {
    const longest = fc.integer({ min: LONGEST_MS - 1, max: LONGEST_MS + 2 }).map((ms) => `${ms}ms`);
    const text = fc.oneof({ weight: 50, arbitrary: nearly }, fc.string(), longest);
    holds(
      fc.property(text, (text) => {
        const go = goNanoseconds(text.trim());
        const longNs = BigInt(LONGEST_MS) * 1_000_000n;
        const ms = read(text);
        if (ms === undefined) assert.ok(go === undefined || go > longNs, `refused, but ${go} ns`);
        else assert.ok(go !== undefined && isNear(ms, go), `${ms} ms, but Go: ${go} ns`);
      }),
      1_000,
    );
  });

  it('refuses what is no text with its own message', () => {
    const value = fc.anything({ withBigInt: true, withDate: true, withNullPrototype: true });
    holds(
      fc.property(
        value.filter((value) => typeof value !== 'string'),
        (value) => {
          assert.equal(read(value), undefined);
        },
      ),
    );
  });

  it('hints at what a bare number was meant to be, and would take that', () => {
    const number = fc.oneof(
      fc.nat(),
      fc.double({ min: 0, max: 1e6, noNaN: true }),
      fc.double({ min: 0, noNaN: true }),
    );
    const written = fc.oneof(
      number,
      number.map(String),
      fc.nat().map((n) => `.${n}`),
      fc.nat().map((n) => `${n}.`),
    );
    holds(
      fc.property(written, (bare) => {
        const message = refusalOf(bare);
        const [, meant] = /\(did you mean "(.*)"\?\)$/.exec(message) ?? [];
        if (/[a-z]/i.test(String(bare))) assert.equal(meant, undefined, 'Go has no exponents');
        else assert.equal(meant, `${bare}s`);
        if (meant !== undefined) read(meant, /must be at most 596h/);
      }),
    );
  });
});

/** Reads a duration; undefined when it is refused as it should be. */
function read(
  value: unknown,
  expected: RegExp = /^must be (a duration with a unit, such as 5s, 1m30s or 500ms|at most 596h)/,
): number | undefined {
  try {
    const ms = parseDuration(value);
    assert.ok(ms >= 0 && ms <= LONGEST_MS, `${ms} ms`);
    return ms;
  } catch (error) {
    assert.match(messageOf(error), expected);
    return undefined;
  }
}

function refusalOf(value: unknown): string {
  try {
    return assert.fail(`it was read as ${parseDuration(value)} ms`);
  } catch (error) {
    if (error instanceof assert.AssertionError) throw error;
    return messageOf(error);
  }
}

const GO_UNITS_NS: Readonly<Record<string, bigint>> = {
  ns: 1n,
  us: 1_000n,
  µs: 1_000n,
  ms: 1_000_000n,
  s: 1_000_000_000n,
  m: 60_000_000_000n,
  h: 3_600_000_000_000n,
};

/** Go's time.ParseDuration, in whole numbers; undefined: it is refused. Signs are left out. */
function goNanoseconds(text: string): bigint | undefined {
  let rest = text;
  let total = 0n;
  const take = (isMore: (char: string) => boolean): string => {
    let end = 0;
    while (end < rest.length && isMore(rest.charAt(end))) end += 1;
    const taken = rest.slice(0, end);
    rest = rest.slice(end);
    return taken;
  };
  const isDigit = (char: string): boolean => char >= '0' && char <= '9';
  if (rest === '') return undefined;
  while (rest !== '') {
    const whole = take(isDigit);
    let fraction = '';
    if (rest.startsWith('.')) {
      rest = rest.slice(1);
      fraction = take(isDigit);
    }
    if (whole === '' && fraction === '') return undefined;
    const unit = GO_UNITS_NS[take((char) => char !== '.' && !isDigit(char))];
    if (unit === undefined) return undefined;
    total += BigInt(whole) * unit;
    total += (BigInt(fraction) * unit) / 10n ** BigInt(fraction.length);
  }
  return total;
}

/** Go drops what is below a nanosecond, in each part. */
function isNear(ms: number, ns: bigint): boolean {
  return Math.abs(ms - Number(ns) / 1e6) <= 1e-5;
}

/** Go's Duration.String. */
function goString(ms: number): string {
  if (ms === 0) return '0s';
  if (ms < 1_000) return `${ms}ms`;
  const minutes = Math.floor(ms / 60_000);
  const seconds = `${(ms % 60_000) / 1_000}s`;
  if (minutes === 0) return seconds;
  const hours = Math.floor(minutes / 60);
  return hours === 0 ? `${minutes}m${seconds}` : `${hours}h${minutes % 60}m${seconds}`;
}
