import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { DrainOutcome } from '../../src/drain/state.js';

/** The moments at which a fault begins, in the order of the page's columns. */
export const PHASES = ['before', 'fail-health', 'delay', 'close', 'wait', 'after'] as const;
export type FaultPhase = (typeof PHASES)[number];

/** How a drain ends, in the words of docs/faults.md. */
export type Ending = 'at once' | 'when empty' | 'at the deadline' | 'as before';

/** One cell of the matrix in docs/faults.md. */
export interface Expected {
  outcome: DrainOutcome;
  ending: Ending;
  /** The status of `/shutdown`. */
  status: number;
  /** How long it may take after what the ending names. */
  withinMs: number;
}

const PAGE = readFileSync(resolve(join(import.meta.dirname, '../../docs/faults.md')), 'utf8');

/** The rows of the table below a header, each by the names of its columns. */
export function tableOf(firstColumn: string): Record<string, string>[] {
  const lines = PAGE.split('\n');
  const start = lines.findIndex((line) => cellsOf(line)[0] === firstColumn);
  assert.ok(start >= 0, `docs/faults.md has no table that begins with ${firstColumn}`);
  const header = cellsOf(lines[start] ?? '');
  const rows: Record<string, string>[] = [];
  for (const line of lines.slice(start + 2)) {
    if (!line.startsWith('|')) break;
    const cells = cellsOf(line);
    assert.equal(cells.length, header.length, `a row of docs/faults.md is not whole: ${line}`);
    rows.push(Object.fromEntries(header.map((name, index) => [name, cells[index] ?? ''])));
  }
  return rows;
}

/** What the page says of every fault, and in which phase. */
export function readMatrix(): Map<string, Record<FaultPhase, Expected>> {
  const statusOf = new Map(tableOf('outcome').map((row) => [row['outcome'], row['`/shutdown`']]));
  const limitOf = new Map(
    tableOf('how it ends').map((row) => [row['how it ends'], row['at most']]),
  );
  const expected = (cell = ''): Expected => {
    const [outcome, ending] = cell.split(', ');
    const status = Number(statusOf.get(outcome));
    const seconds = Number(/^(\d+) s /.exec(limitOf.get(ending) ?? '')?.[1]);
    assert.ok(status > 0 && seconds > 0, `docs/faults.md does not explain the cell ${cell}`);
    return {
      outcome: outcome as DrainOutcome,
      ending: ending as Ending,
      status,
      withinMs: seconds * 1_000,
    };
  };
  return new Map(
    tableOf('fault').map((row) => [
      row['fault'] ?? '',
      {
        before: expected(row['before']),
        'fail-health': expected(row['fail-health']),
        delay: expected(row['delay']),
        close: expected(row['close']),
        wait: expected(row['wait']),
        after: expected(row['after']),
      },
    ]),
  );
}

function cellsOf(line: string): string[] {
  return line
    .split('|')
    .slice(1, -1)
    .map((cell) => cell.trim());
}
