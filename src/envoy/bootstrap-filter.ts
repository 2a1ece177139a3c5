/** Keeps of a bootstrap, as Envoy prints it, what is needed; the rest may be many megabytes. */
export interface BootstrapFilter {
  /** Sees the next piece. */
  take(chunk: string): void;
  /** `admin { … }` and each `listeners { … }`, without filter chains; undefined: it was not printed whole. */
  found(): string | undefined;
}

/** At the left edge what we have broken, which is always there, and the admin interface; one level below the listeners. */
const BEGIN = /^(?: {2}listeners|admin|stats_flush_interval)\s*\{\n/m;
const FIELDS = /^ {4}(address|additional_addresses|enable_reuse_port|internal_listener)\s*\{/;
/** What follows a bootstrap that was printed whole. */
const AFTER = /^: Proto constraint validation failed/m;
const END_OF_BLOCK = /^\}/m;
const END_OF_FIELD = /^ {4}\}\n/m;

/** Creates one. A string has no line break of its own in this format, so the indents tell the levels. */
export function createBootstrapFilter(): BootstrapFilter {
  let rest = '';
  let kept = '';
  let isWhole = false;
  let inside: 'nothing' | 'block' | 'listener' = 'nothing';

  /** Whether it came on. */
  const step = (): boolean => {
    if (inside === 'nothing') return begin();
    if (inside === 'listener') return readField();
    const end = rest.search(END_OF_BLOCK);
    if (end < 0) return false;
    keep(end, '}\n');
    inside = 'nothing';
    return true;
  };
  const begin = (): boolean => {
    const found = BEGIN.exec(rest);
    isWhole ||= found === null && AFTER.test(rest);
    rest = rest.slice(found ? found.index + found[0].length : rest.lastIndexOf('\n') + 1);
    if (!found) return false;
    inside = found[0].startsWith(' ') ? 'listener' : 'block';
    kept += found[0];
    return true;
  };
  const readField = (): boolean => {
    const line = rest.slice(0, rest.indexOf('\n') + 1);
    if (line === '') return false;
    if (line === '  }\n') inside = 'nothing';
    if (!line.endsWith('{\n')) {
      keep(line.length);
      return true;
    }
    const end = END_OF_FIELD.exec(rest);
    if (!end) return false;
    const length = end.index + end[0].length;
    if (FIELDS.test(line)) keep(length);
    else rest = rest.slice(length);
    return true;
  };
  const keep = (length: number, instead?: string): void => {
    kept += rest.slice(0, length) + (instead ?? '');
    rest = rest.slice(length);
  };
  return {
    take: (chunk) => {
      rest += chunk;
      while (step());
    },
    found: () => (isWhole && /^stats_flush/m.test(kept) ? kept : undefined),
  };
}
