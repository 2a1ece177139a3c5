import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** A line that a page shows as output of pm2-envoy. */
export interface ShownLine {
  line: number;
  text: string;
}

/** The words of what the code can print, and which of them can follow each other. */
export interface Vocabulary {
  words: ReadonlySet<string>;
  pairs: ReadonlySet<string>;
  /** Words before and after a value that is filled in. */
  ends: ReadonlySet<string>;
  starts: ReadonlySet<string>;
}

/** Names that a user gives, and messages of Envoy, the system and commands in hooks: no text of ours. */
const FOREIGN = [
  /\(envoy-config\): .*/,
  /^configuration '.*/,
  /Envoy said: .*/,
  /LIVE: error .*/,
  /^\/etc\/.*/,
  /\([A-Z]{5,}\b[^)]*\)/,
  /E[A-Z]{4,}: .*/,
  /(?:user|service) \w+/,
  /^\w+\): /,
  /^echo ".*…/,
];
const LOG_LINE = /(?:INFO|WARN|ERROR|FATAL) \([\w-]+\): (.*?)(?: \{.*)?$/;
const JSON_LINE = /"msg":"((?:[^"\\]|\\.)*)"/;
const OF_OTHERS =
  /^(?:[+-]|@@|\d{4}-\S+ PM2|curl:|\[PM2\]|[A-Z][a-z]{2} \d\d \S+ \S+ systemd|\s+(?:Active|Process):)/;

/** The lines that pm2-envoy prints after a command of its own, and its log lines wherever they are. */
export function shownLines(page: string): ShownLine[] {
  const lines = page.split('\n');
  const shown: ShownLine[] = [];
  let block: string | undefined;
  let isOurs = false;
  for (const [index, line] of lines.entries()) {
    if (line.startsWith('```')) {
      block = block === undefined ? line.slice(3) : undefined;
      isOurs = false;
      continue;
    }
    if (block !== '') continue;
    if (/^[$#] /.test(line)) {
      isOurs = /\bpm2-envoy (?:shutdown|resume|status|redeploy|doctor|config|envoy)\b/.test(line);
      continue;
    }
    const message = LOG_LINE.exec(line)?.[1] ?? JSON_LINE.exec(line)?.[1];
    if (message === undefined && (!isOurs || OF_OTHERS.test(line))) continue;
    shown.push({ line: index + 1, text: ownPart(message ?? line) });
  }
  return shown;
}

function ownPart(text: string): string {
  return FOREIGN.reduce((rest, foreign) => rest.replace(foreign, ''), text);
}

/** What of a line the code can't print any more; undefined: nothing. */
export function staleIn(
  text: string,
  { words, pairs, ends, starts }: Vocabulary,
): string | undefined {
  for (const phrase of phrasesOf(text)) {
    const unknown = phrase.find((word) => !words.has(word) && !words.has(word.replace(/s$/, '')));
    if (unknown !== undefined) return unknown;
    const at = phrase.findIndex((word, index) => {
      const next = phrase[index + 1];
      if (next === undefined || pairs.has(`${word} ${next}`)) return false;
      return !(ends.has(word) && starts.has(next));
    });
    if (at >= 0) return `${phrase[at]} ${phrase[at + 1]}`;
  }
  return undefined;
}

/** The words of every text in the code below a folder. */
export function vocabularyOf(folder: string): Vocabulary {
  const [words, pairs] = [new Set<string>(), new Set<string>()];
  const [ends, starts] = [new Set<string>(), new Set<string>()];
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' });
  for (const file of files.filter((name) => name.endsWith('.ts'))) {
    for (const text of textsIn(readFileSync(join(folder, file), 'utf8'))) {
      for (const phrase of phrasesOf(text)) {
        for (const word of phrase) words.add(word);
        for (const [index, word] of phrase.slice(1).entries())
          pairs.add(`${phrase[index]} ${word}`);
        starts.add(phrase[0] ?? '');
        ends.add(phrase.at(-1) ?? '');
      }
    }
  }
  return { words, pairs, ends, starts };
}

/** Runs of plain words: a number, a path, a value that is filled in or punctuation ends one. */
function phrasesOf(text: string): string[][] {
  return text
    .replaceAll('’', "'")
    .split(/\$\{[^}]*\}?|[^A-Za-z' -]+\S*|\s{2,}| (?=[A-Z\d/"`'_-])|(?<=[\d"`'_…]) /)
    .map((run) => run.split(' ').filter((word) => /^[a-z]+(?:[-'][a-z]+)*$/.test(word)))
    .filter((run) => run.length > 0);
}

/** The contents of quotes and templates, without comments. */
function textsIn(source: string): string[] {
  const tokens = /\/\/.*|\/\*[\s\S]*?\*\/|'((?:[^'\\\n]|\\.)*)'|`((?:[^`\\]|\\.)*)`/g;
  return [...source.matchAll(tokens)].flatMap(([, quoted, template]) => quoted ?? template ?? []);
}
