/** What can be shown on a stream. */
export interface Terminal {
  /** False: a pipe or a file. */
  readonly tty: boolean;
  /** Columns; 80 where the stream does not say. */
  readonly width: number;
  /** Rows; 24 where the stream does not say. */
  readonly height: number;
  readonly color: boolean;
  /** Whether characters beyond ASCII can be trusted to show. */
  readonly unicode: boolean;
  /** Whether what was written can be drawn over; otherwise only plain lines make sense. */
  readonly live: boolean;
}

/** What a stream says of itself; a pipe says nothing. */
export interface StreamSize {
  isTTY?: boolean | undefined;
  columns?: number | undefined;
  rows?: number | undefined;
}

const WIDTH = 80;
const HEIGHT = 24;

/**
 * What the terminal behind a stream can do. `NO_COLOR` wins over `FORCE_COLOR`, as in picocolors; a
 * terminal that is dumb, or a CI job's, gets plain lines.
 */
export function terminalOf(env: NodeJS.ProcessEnv, stream: StreamSize): Terminal {
  const tty = stream.isTTY === true;
  const isDumb = env['TERM'] === 'dumb';
  return {
    tty,
    width: stream.columns || WIDTH,
    height: stream.rows || HEIGHT,
    color: !env['NO_COLOR'] && (isSet(env['FORCE_COLOR']) ?? (tty && !isDumb)),
    unicode: /utf-?8/i.test(env['LC_ALL'] || env['LC_CTYPE'] || env['LANG'] || ''),
    live: tty && !isDumb && isSet(env['CI']) !== true,
  };
}

/** Undefined: it says nothing. */
function isSet(value: string | undefined): boolean | undefined {
  return value ? value !== '0' && value.toLowerCase() !== 'false' : undefined;
}
