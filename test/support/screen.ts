/** What a terminal shows of what was written to it. */
export interface ScreenReader {
  write(text: string): void;
  /** Gives it another size; lines that are wider then are broken, as most terminals do. */
  resize(width: number, height: number): void;
  /** The rows that are not empty at the end, without blanks at their ends. */
  rows(): string[];
  /** Whether a line was longer than the terminal is wide, since it was asked last. */
  hasWrapped(): boolean;
}

const ESCAPE = '\u001b';
/** Escape sequences that the command line may use; a test fails at any other. */
const SEQUENCE = new RegExp(`^${ESCAPE}\\[(\\??)([\\d;]*)([A-Za-z])`);
const UNFINISHED = new RegExp(`^${ESCAPE}(\\[\\??[\\d;]*)?$`);

/** Creates a terminal of that size, which knows as much as the command line needs. */
export function createScreenReader(columns: number, rows: number): ScreenReader {
  let width = columns;
  let height = rows;
  let lines: string[][] = [[]];
  let row = 0;
  let column = 0;
  let wrapped = false;
  /** The beginning of an escape sequence whose end has not come yet. */
  let begun = '';
  /** What is shown while a frame is coming: a program may have all of it shown in one piece. */
  let before: string[] | undefined;

  const lineFeed = (): void => {
    row += 1;
    if (row >= height) {
      lines = lines.slice(row - height + 1);
      row = height - 1;
    }
    while (lines.length <= row) lines.push([]);
  };
  const put = (character: string): void => {
    if (column >= width) {
      wrapped = true;
      column = 0;
      lineFeed();
    }
    const line = lines[row] ?? [];
    while (line.length < column) line.push(' ');
    line[column] = character;
    column += 1;
  };
  const control = (character: string): boolean => {
    if (character === '\n') lineFeed();
    else if (character === '\r') column = 0;
    else return false;
    return true;
  };
  const obey = (isPrivate: boolean, parameters: string, command: string): void => {
    const amount = Number(parameters.split(';')[0] || 1);
    const line = lines[row] ?? [];
    if (isPrivate && parameters === '2026') before = command === 'h' ? rowsNow() : undefined;
    if (isPrivate || command === 'm') return;
    if (command === 'A') row = Math.max(0, row - amount);
    else if (command === 'B') row = Math.min(height - 1, row + amount);
    else if (command === 'G') column = amount - 1;
    else if (command === 'K' && parameters === '2') line.length = 0;
    else if (command === 'K') line.length = Math.min(line.length, column);
    else throw new Error(`the terminal does not know ESC[${parameters}${command}`);
    while (lines.length <= row) lines.push([]);
  };

  const rowsNow = (): string[] => {
    const shown = lines.map((line) => line.join('').trimEnd());
    while (shown.at(-1) === '') shown.pop();
    return shown;
  };

  return {
    write: (text) => {
      let rest = begun + text;
      begun = '';
      while (rest !== '') {
        const [all, mark, parameters = '', command = ''] = SEQUENCE.exec(rest) ?? [];
        if (all) {
          obey(mark === '?', parameters, command);
          rest = rest.slice(all.length);
          continue;
        }
        if (UNFINISHED.test(rest)) {
          begun = rest;
          return;
        }
        const [character = ''] = rest;
        if (character === ESCAPE) throw new Error(`no sequence: ${JSON.stringify(rest)}`);
        if (!control(character)) put(character);
        rest = rest.slice(character.length);
      }
    },
    resize: (newWidth, newHeight) => {
      width = newWidth;
      height = newHeight;
      const above = lines.slice(0, row).flatMap((line) => broken(line, width));
      lines = [...above, ...lines.slice(row)];
      row = above.length;
      const gone = Math.max(0, row - height + 1);
      lines = lines.slice(gone);
      row -= gone;
    },
    rows: () => before ?? rowsNow(),
    hasWrapped: () => {
      const has = wrapped;
      wrapped = false;
      return has;
    },
  };
}

function broken(line: readonly string[], width: number): string[][] {
  const parts = Math.max(1, Math.ceil(line.join('').trimEnd().length / width));
  return Array.from({ length: parts }, (_, at) => line.slice(at * width, (at + 1) * width));
}
