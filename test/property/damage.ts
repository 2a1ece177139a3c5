import fc from 'fast-check';

/** What a state file may hold instead of `valid`: bytes, other JSON, a part of it, or wrong members. */
export function damaged(valid: object): fc.Arbitrary<string | Uint8Array> {
  const text = JSON.stringify(valid);
  const bytes = fc.uint8Array({ maxLength: 40 });
  const json = fc.jsonValue().map((value) => JSON.stringify(value));
  const cut = fc.nat(text.length).map((length) => text.slice(0, length));
  const flipped = fc
    .tuple(fc.nat(text.length - 1), fc.integer({ min: 1, max: 255 }))
    .map(([at, mask]) => {
      const bytes = Buffer.from(text);
      bytes[at] = (bytes[at] ?? 0) ^ mask;
      return Uint8Array.from(bytes);
    });
  return fc.oneof(bytes, json, cut, flipped, { weight: 4, arbitrary: withWrongMembers(valid) });
}

function withWrongMembers(valid: object): fc.Arbitrary<string> {
  const leaf = fc.oneof(
    fc.jsonValue({ maxDepth: 1 }),
    fc.constantFrom(null, '', 0, -1, 1e300, -1e300, 0.5, [], {}, true, undefined),
  );
  const wrong = fc.tuple(fc.constantFrom(...pathsOf(valid)), leaf);
  return fc
    .array(wrong, { minLength: 1, maxLength: 2 })
    .map((changes) => changes.reduce(set, JSON.parse(JSON.stringify(valid))))
    .map((value) => JSON.stringify(value));
}

/** The path of every member, inner ones too. */
function pathsOf(value: object): string[][] {
  return Object.entries(value).flatMap(([key, inner]: [string, unknown]) => {
    const below = typeof inner === 'object' && inner !== null ? pathsOf(inner) : [];
    return [[key], ...below.map((path) => [key, ...path])];
  });
}

function set(value: unknown, [path, leaf]: [string[], unknown]): unknown {
  const [key = '', ...rest] = path;
  if (typeof value !== 'object' || value === null) return value;
  const members = value as Record<string, unknown>;
  return { ...members, [key]: rest.length === 0 ? leaf : set(members[key], [rest, leaf]) };
}
