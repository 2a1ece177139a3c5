import { eastAsianWidth } from 'get-east-asian-width';

const ASCII = /^[\x20-\x7e]*$/;
/** A picture, two letters that make a flag, or a key: two columns, whatever it is made of. */
const EMOJI = /^\p{Emoji_Presentation}|^\p{Emoji}\ufe0f|^[\u{1f1e6}-\u{1f1ff}]{2}/u;
const ZERO_WIDTH = /^[\p{Mn}\p{Me}\p{Default_Ignorable_Code_Point}]/u;
const SPACING_MARK = /\p{Mc}/gu;
/** Names come from Envoy and its clients: they must not be able to steer the terminal. */
const CONTROL = /[\p{Cc}\p{Cf}\u2028\u2029]+/gu;

/** Columns that a text takes on a terminal. */
export function widthOf(text: string): number {
  if (ASCII.test(text)) return text.length;
  return charactersOf(text).reduce((sum, character) => sum + columnsOf(character), 0);
}

/** A text as it may be shown: without control characters, and in ASCII where the terminal has no more. */
export function clean(text: string, unicode: boolean): string {
  const visible = text.replace(CONTROL, ' ');
  if (unicode) return visible;
  return visible
    .replaceAll('’', "'")
    .replaceAll('…', '..')
    .replaceAll('·', '|')
    .replace(/[^\x20-\x7e]/gu, '?');
}

/** The mark of what was left out. */
export function ellipsis(unicode: boolean): string {
  return unicode ? '…' : '..';
}

/** Cuts the end off a text that is wider than `width`. */
export function cutEnd(text: string, width: number, unicode = true): string {
  if (widthOf(text) <= width) return text;
  const mark = ellipsis(unicode);
  return (
    take(charactersOf(text), width - widthOf(mark)).join('') + mark.slice(0, Math.max(0, width))
  );
}

/** Cuts the middle out of a text that is wider than `width`: names differ at both ends. */
export function cutMiddle(text: string, width: number, unicode = true): string {
  if (widthOf(text) <= width) return text;
  const mark = ellipsis(unicode);
  const room = width - widthOf(mark);
  if (room < 2) return cutEnd(text, width, unicode);
  const characters = charactersOf(text);
  const head = take(characters, Math.ceil(room / 2));
  const tail = take(characters.toReversed(), Math.floor(room / 2)).toReversed();
  return head.join('') + mark + tail.join('');
}

/** Breaks a text at its spaces, and a word that is too wide anywhere; no line is wider than `width`. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && widthOf(line) + 1 + widthOf(word) <= width) {
      line += ` ${word}`;
      continue;
    }
    if (line !== '') lines.push(line);
    let rest = charactersOf(word);
    while (widthOf(rest.join('')) > width) {
      const part = take(rest, width);
      if (part.length === 0) break;
      lines.push(part.join(''));
      rest = rest.slice(part.length);
    }
    line = rest.join('');
  }
  return [...lines, line];
}

/** A sentence in lines of at most `width`; a longer word, such as a path, stays whole, and so does a command. */
export function fold(text: string, width: number): string {
  const lines: string[] = [];
  for (const word of text.match(/[^\s`]*`[^`]*`\S*|\S+/g) ?? []) {
    const last = lines.at(-1);
    if (last === undefined || widthOf(last) + 1 + widthOf(word) > width) lines.push(word);
    else lines[lines.length - 1] = `${last} ${word}`;
  }
  return lines.join('\n');
}

/** Sentences beside a label, folded there; below it, two columns in, where the label leaves too little room. */
export function foldBeside(label: string, texts: readonly string[], width: number): string {
  const isBelow = widthOf(label) > width / 2;
  const indent = isBelow ? 2 : widthOf(label);
  const lines = texts.map((text) => fold(text, width - indent)).join('\n');
  const indented = lines.replaceAll('\n', `\n${' '.repeat(indent)}`);
  return isBelow ? `${label.trimEnd()}\n${' '.repeat(indent)}${indented}` : label + indented;
}

function take(characters: readonly string[], width: number): string[] {
  const taken: string[] = [];
  let left = width;
  for (const character of characters) {
    left -= columnsOf(character);
    if (left < 0) break;
    taken.push(character);
  }
  return taken;
}

function columnsOf(character: string): number {
  if (EMOJI.test(character)) return 2;
  if (ZERO_WIDTH.test(character)) return 0;
  const marks = character.slice(1).match(SPACING_MARK)?.length ?? 0;
  return eastAsianWidth(character.codePointAt(0) ?? 0) + marks;
}

let segmenter: Intl.Segmenter | undefined;

/** What is one character to the eye, such as a flag, is one here. */
function charactersOf(text: string): string[] {
  if (ASCII.test(text)) return [...text];
  // Not before it is needed: it takes as long as the rest of a command's terminal.
  segmenter ??= new Intl.Segmenter();
  return Array.from(segmenter.segment(text), ({ segment }) => segment);
}
