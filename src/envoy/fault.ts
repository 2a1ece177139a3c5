/** Finds in an Envoy's output why it ended, or does not serve. */
export interface FaultFinder {
  /** Reads on: any part of the output. */
  see(text: string): void;
  /** Envoy's last critical or error line, without its prefix; the last line of anything else. */
  found(): string | undefined;
  /** The last critical or error line, else the last warning about its configuration, of one that runs. */
  complaint(): string | undefined;
}

/** What is said of the reason stands at both ends of a long message. */
const HEAD = 200;
const TAIL = 300;
/** Of a line that has not ended yet, and of what belongs to one. */
const LONGEST = 8 * 1024;

/** Creates it, for one Envoy. */
export function createFaultFinder(): FaultFinder {
  let rest = '';
  let last = '';
  let fault = '';
  let warning = '';
  let isInFault = false;
  const seeLine = (line: string): void => {
    if (line.trim() === '') return;
    last = line;
    // A message of several lines has a prefix only on the first one.
    const isFirst = /^\[[^\]]*\]\[/.test(line);
    isInFault = isFirst ? /\]\[(critical|error)\]/.test(line) : isInFault;
    if (isInFault) fault = isFirst ? line : `${fault} ${line}`.slice(0, LONGEST);
    else if (/\]\[warning\]\[(config|upstream|misc)\]/.test(line)) warning = line;
  };
  return {
    see: (text) => {
      const lines = (rest + text).split('\n');
      rest = (lines.pop() ?? '').slice(-LONGEST);
      for (const line of lines) seeLine(line);
    },
    found: () => {
      seeLine(rest);
      rest = '';
      const line = fault || last;
      return line === '' ? undefined : inShort(line);
    },
    complaint: () => {
      const line = fault || warning;
      return line === '' ? undefined : inShort(line);
    },
  };
}

/** Without its prefix; Envoy puts two spaces where a sentence ends. */
function inShort(line: string): string {
  const text = line
    .replace(/^(\[[^\]]*\])+ (\[[^\]]*\] )?/, '')
    .replace(/\s+/g, ' ')
    .trim();
  return text.length <= HEAD + TAIL ? text : `${text.slice(0, HEAD)} … ${text.slice(-TAIL)}`;
}
