import { median } from './measure.js';
import type { Row } from './table.js';

const WIDTH = 740;
const LEFT = 260;
const BAR = 22;
const ROOM = 380;
/** Readable on a light page and on a dark one. */
const STYLE =
  'text{font:14px system-ui,sans-serif;fill:#1f2328}.title{font-weight:600}.bar{fill:#8c959f}.own{fill:#1a7f37}' +
  '@media(prefers-color-scheme:dark){text{fill:#e6edf3}.bar{fill:#6e7681}.own{fill:#3fb950}}';

/** Rows that have the same subjects. */
export interface Group {
  rows: readonly Row[];
  /** Of the subjects, ours first. */
  names: readonly string[];
}

/** Medians as bars: a part for each row, a bar for each subject. An SVG document. */
export function toChart(groups: readonly Group[]): string {
  const parts: string[] = [];
  let y = 8;
  const bars = groups.flatMap(({ rows, names }) => rows.map((row) => ({ ...row, names })));
  for (const { what, values, names } of bars) {
    // A subject to which this does not apply has no bar.
    const medians = values.map(median);
    const longest = Math.max(...medians.filter(Number.isFinite));
    y += BAR;
    parts.push(`<text class="title" x="8" y="${y}">${escaped(what)}</text>`);
    y += 8;
    for (const [index, value] of medians.entries()) {
      if (!Number.isFinite(value)) continue;
      const width = Math.max(1.5, (value / longest) * ROOM);
      const own = index === 0 ? 'own' : 'bar';
      parts.push(
        `<text x="${LEFT - 10}" y="${y + 16}" text-anchor="end">${escaped(names[index] ?? '')}</text>`,
        `<rect class="${own}" x="${LEFT}" y="${y + 3}" width="${width.toFixed(1)}" height="${BAR - 6}" rx="2"/>`,
        `<text x="${(LEFT + width + 8).toFixed(1)}" y="${y + 16}">${short(value)}</text>`,
      );
      y += BAR;
    }
    y += 10;
  }
  const label = bars.map(({ what, values, names }) => `${what}: ${said(values, names)}`).join('; ');
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${y}" width="${WIDTH}" height="${y}" role="img" aria-label="${escaped(label)}">`,
    `<style>${STYLE}</style>`,
    ...parts,
    '</svg>\n',
  ].join('\n');
}

function said(values: Row['values'], names: readonly string[]): string {
  return names
    .map((name, index) => [name, median(values[index] ?? [])] as const)
    .filter(([, value]) => Number.isFinite(value))
    .map(([name, value]) => `${name} ${short(value)}`)
    .join(', ');
}

function short(value: number): string {
  return String(value < 100 ? Number(value.toPrecision(2)) : Math.round(value));
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;');
}
