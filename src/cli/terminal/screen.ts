import { stripVTControlCharacters } from 'node:util';
import { widthOf } from './fit.js';
import type { Terminal } from './terminal.js';

/** Lines on a terminal that are redrawn in place, and again when its size changes. */
export interface Screen {
  /** Shows these lines instead of the last ones. */
  show(draw: Draw): void;
  /** Takes them away for a moment, for something that is to stay above them. */
  clear(): void;
  redraw(): void;
  /** Leaves the last ones standing. */
  end(): void;
}

/** What is needed of a terminal's stream. */
export interface ScreenStream {
  readonly isTTY?: boolean;
  write(text: string): unknown;
  on(event: 'resize', listener: () => void): unknown;
  off(event: 'resize', listener: () => void): unknown;
}

/** Makes the lines for a terminal of the size that it has now. */
export type Draw = (terminal: Terminal) => readonly string[];

const LINE_ABOVE_ERASED = '\u001b[1A\u001b[2K';
/** Between two parts of one frame: a terminal would show the first one by itself. */
const SHOWN_BETWEEN = '\u001b[?2026l\u001b[?2026h';

/** Opens a screen on a terminal; `measure` says what it is like now. */
export async function openScreen(stream: ScreenStream, measure: () => Terminal): Promise<Screen> {
  // Loaded only for people: a pipe needs none of it.
  const { createLogUpdate } = await import('log-update');
  let frame = '';
  const write = (text: string): void => {
    frame += text;
  };
  const flush = (): void => {
    stream.write(frame.replaceAll(SHOWN_BETWEEN, ''));
    frame = '';
  };
  const update = createLogUpdate(measured(stream, measure, write));
  let draw: Draw | undefined;
  let shown: readonly string[] = [];
  let shownWidth = 0;

  const clear = (): void => {
    update.clear();
    shown = [];
  };
  /** A terminal that got narrower has broken the lines that it showed: those above are ours too. */
  const clearBroken = (width: number): void => {
    const more = shown.reduce((sum, line) => sum + rowsOf(line, width) - 1, 0);
    clear();
    write(LINE_ABOVE_ERASED.repeat(more));
  };
  const redraw = (): void => {
    if (!draw) return;
    const terminal = measure();
    const lines = draw(terminal);
    if (terminal.width < shownWidth) clearBroken(terminal.width);
    // log-update 7.2 leaves the end of a longer frame where it was.
    else if (lines.length !== shown.length) clear();
    shown = lines;
    shownWidth = terminal.width;
    update(lines.join('\n'));
    flush();
  };
  stream.on('resize', redraw);
  return {
    show: (how) => {
      draw = how;
      redraw();
    },
    clear: () => {
      clear();
      flush();
    },
    redraw,
    end: () => {
      stream.off('resize', redraw);
      draw = undefined;
      update.done();
    },
  };
}

function rowsOf(line: string, width: number): number {
  return Math.max(1, Math.ceil(widthOf(stripVTControlCharacters(line)) / width));
}

/** The stream with another `write`, and a size that is never 0, as it is where no one has set one. */
function measured(
  stream: ScreenStream,
  measure: () => Terminal,
  write: (text: string) => void,
): NodeJS.WritableStream {
  return Object.create(stream, {
    columns: { get: () => measure().width },
    rows: { get: () => measure().height },
    write: { value: write },
  });
}
