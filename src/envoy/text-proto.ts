/** A message of protobuf's text format: the values of each field, in their order. */
export type TextMessage = ReadonlyMap<string, readonly TextValue[]>;

/** Text, a number, a word or a message; which of them a field has is for its reader to know. */
export type TextValue = string | TextMessage;

/** `name {`, `name: "text"`, `name: value` or `}`. */
const FIELD = /([^\s:{}"]+)\s*\{|([^\s:{}"]+):\s*(?:"((?:[^"\\]|\\.)*)"|([^\s{}"]+))|\}/g;

/**
 * Reads what protobuf's `DebugString` prints. Never throws: what is cut off ends where the text does.
 *
 * @see https://protobuf.dev/reference/protobuf/textformat-spec/
 */
export function parseTextMessage(text: string): TextMessage {
  return readFields(text.matchAll(FIELD));
}

/** The first value of a field, if it is a message; an empty one otherwise. */
export function messageIn(message: TextMessage, field: string): TextMessage {
  const value = message.get(field)?.[0];
  return value === undefined || typeof value === 'string' ? new Map() : value;
}

/** The first value of a field, if it is none. */
export function textIn(message: TextMessage, field: string): string | undefined {
  const value = message.get(field)?.[0];
  return typeof value === 'string' ? value : undefined;
}

function readFields(found: Iterator<RegExpExecArray>): TextMessage {
  const message = new Map<string, TextValue[]>();
  for (let next = found.next(); !next.done; next = found.next()) {
    const [, opened, name = opened, text, word] = next.value;
    if (name === undefined) break;
    const value = opened ? readFields(found) : text === undefined ? (word ?? '') : plainOf(text);
    message.set(name, [...(message.get(name) ?? []), value]);
  }
  return message;
}

const ESCAPES: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t' };

/** Bytes beyond ASCII are printed in octal, UTF-8 byte by byte. */
function plainOf(text: string): string {
  const bytes = text.replaceAll(/\\([0-7]{3}|.)/g, (_, code: string) =>
    code.length === 3 ? String.fromCharCode(Number.parseInt(code, 8)) : (ESCAPES[code] ?? code),
  );
  return Buffer.from(bytes, 'latin1').toString('utf8');
}
