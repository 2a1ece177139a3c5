/** HTML that was escaped; only {@link html} makes it. */
class Escaped {
  readonly #text: string;
  constructor(text: string) {
    this.#text = text;
  }
  toString(): string {
    return this.#text;
  }
}

/** HTML that can stand in the page as it is. */
export type Html = Escaped;

/** What can stand in a template: text is escaped, `null`, `undefined` and `false` are nothing. */
export type Part = Html | string | number | null | undefined | false | readonly Part[];

/**
 * Makes HTML. Everything between `${` and `}` is escaped, as content and in quoted attributes, unless
 * this function has made it.
 */
export function html(strings: TemplateStringsArray, ...parts: readonly Part[]): Html {
  return new Escaped(
    strings.map((text, index) => (index === 0 ? '' : render(parts[index - 1])) + text).join(''),
  );
}

const ESCAPES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

function render(part: Part): string {
  if (part === null || part === undefined || part === false) return '';
  if (part instanceof Escaped) return part.toString();
  if (Array.isArray(part)) return part.map(render).join('');
  return String(part).replace(/[&<>"']/g, (sign) => ESCAPES[sign] ?? '');
}
