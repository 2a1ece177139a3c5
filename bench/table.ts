import { median } from './measure.js';

/** One thing that was measured: of each subject every value, none where it does not apply. */
export interface Row {
  what: string;
  /**
   * What this project wants to reach: `≤ 2` for the median, `≤ 1.5 ×` for how many times the first peer's it may be,
   * `worst ≤ 3` for the largest value; a dash where there is no limit.
   */
  target: string;
  /** In the order of the subjects, ours first. */
  values: readonly (readonly number[])[];
}

/** The table of the results, with how many times ours each peer's median is. */
export function toMarkdown(rows: readonly Row[], names: readonly string[]): string {
  const head = ['', ...names, 'to reach'];
  return [
    `| ${head.join(' | ')} |`,
    `| ${head.map(() => '---').join(' | ')} |`,
    ...rows.map((row) => toLine(row, names.length)),
  ].join('\n');
}

/** One line of the table. */
export function toLine({ what, target, values }: Row, subjects: number): string {
  const own = median(values[0] ?? []);
  const cells = Array.from({ length: subjects }, (_, index) => {
    const list = values[index] ?? [];
    if (list.length === 0) return '–';
    return index === 0 ? summary(list) : `${summary(list)}, ${times(median(list) / own)}`;
  });
  const isMissed = misses({ what, target, values });
  return `| ${[what, ...cells, isMissed ? `**missed:** ${target}` : target].join(' | ')} |`;
}

/** Whether what was measured of ours is more than its target. */
export function misses({ target, values: [own = [], peer = []] }: Row): boolean {
  return target.split(', ').some((part) => {
    const [, worst, limit, times] = /^(worst )?≤ ([\d.]+)( ×)?$/.exec(part) ?? [];
    const value = worst ? Math.max(...own) : median(own);
    return value > Number(limit) * (times ? median(peer) : 1);
  });
}

/** Median (least – most). */
export function summary(values: readonly number[]): string {
  if (values.length === 1) return short(values[0]);
  return `${short(median(values))} (${short(Math.min(...values))} – ${short(Math.max(...values))})`;
}

function short(value = Number.NaN): string {
  return String(Number(value.toFixed(Math.abs(value) < 10 ? 3 : 0)));
}

function times(ratio: number): string {
  return `${ratio < 10 ? ratio.toFixed(1) : Math.round(ratio)} ×`;
}
