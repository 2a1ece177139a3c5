import picocolors from 'picocolors';
import { clean, cutEnd, cutMiddle, widthOf, wrap } from './fit.js';
import type { Terminal } from './terminal.js';

/** How a text is set off; on a terminal without colours it is not. */
export type Style = 'dim' | 'bold' | 'good' | 'warn' | 'bad';

/** One row of what is shown about Envoy and its drain. */
export interface Row {
  /** Stands left of the text. */
  label?: string;
  /** The longest wording first: the first one that fits is shown. */
  text: string | readonly string[];
  style?: Style;
  labelStyle?: Style;
  /** `item`: one of several that belong to the row above; `mark`: the label is a single character. */
  kind?: 'item' | 'mark';
  /** Shown below where the longest wording does not fit. */
  below?: Row;
  /** Where a text is cut that does not fit; the end if left out. */
  cut?: 'middle';
}

/** Below this many columns labels are not aligned: they would leave no room. */
const ALIGNED_FROM = 40;
const LABEL_WIDTH = 13;
const ITEM_WIDTH = 8;

/**
 * The lines of rows, none wider than the terminal: what is too long is cut, or goes on in a line below
 * it (`long: 'wrap'`).
 */
export function layOut(
  rows: readonly Row[],
  terminal: Terminal,
  long: 'cut' | 'wrap' = 'cut',
): string[] {
  const paint = painter(terminal);
  return rows.flatMap((row) => {
    const head = clean(headOf(row, terminal.width), terminal.unicode);
    const room = terminal.width - widthOf(head);
    const texts = [row.text].flat().map((text) => clean(text, terminal.unicode));
    const label = paint(head, row.labelStyle ?? (row.kind === 'item' ? undefined : 'dim'));
    if (long === 'wrap' && Number.isFinite(terminal.width)) {
      return wrapRow(texts[0] ?? '', head, terminal.width).map((text, index) =>
        index === 0 && text.startsWith(head)
          ? label + paint(text.slice(head.length), row.style)
          : paint(text, row.style),
      );
    }
    const text = texts.find((one) => widthOf(one) <= room) ?? texts.at(-1) ?? '';
    if (room < 1) return [paint(cutEnd(head.trim(), terminal.width, terminal.unicode), 'dim')];
    const below = row.below && text !== texts[0] ? layOut([row.below], terminal) : [];
    const cut = row.cut === 'middle' ? cutMiddle : cutEnd;
    return [label + paint(cut(text, room, terminal.unicode), row.style), ...below];
  });
}

function headOf({ label = '', kind }: Row, width: number): string {
  const isWide = width >= ALIGNED_FROM;
  switch (kind) {
    case 'item':
      return isWide ? `${label.padStart(ITEM_WIDTH)}  ` : `${label.padStart(3)} `;
    case 'mark':
      return isWide ? `  ${label} ` : `${label} `;
    default:
      return label === '' ? '' : isWide ? label.padEnd(LABEL_WIDTH) : `${label} `;
  }
}

/** Continues below the text, or near the margin where that leaves no room. */
function wrapRow(text: string, head: string, width: number): string[] {
  const hang = widthOf(head) <= width / 2 ? widthOf(head) : Math.min(2, width - 1);
  const [first = '', ...rest] = wrap(text, width - hang);
  if (widthOf(head) + widthOf(first) <= width) {
    return [head + first, ...rest.map((line) => ' '.repeat(hang) + line)];
  }
  return [head.trimEnd(), ...[first, ...rest].map((line) => ' '.repeat(hang) + line)];
}

function painter({ color }: Terminal): (text: string, style: Style | undefined) => string {
  const colors = picocolors.createColors(color);
  const paints: Readonly<Record<Style, (text: string) => string>> = {
    dim: colors.dim,
    bold: colors.bold,
    good: colors.green,
    warn: colors.yellow,
    bad: colors.red,
  };
  return (text, style) => (style && text !== '' ? paints[style](text) : text);
}
