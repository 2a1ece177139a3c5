import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { parseTextMessage, type TextMessage, type TextValue } from '../../src/envoy/text-proto.js';
import { holds } from './check.js';

/** A message as a tree: fields in their order. */
interface Tree {
  fields: [string, (string | number | boolean | Tree)[]][];
}

const name = fc.stringMatching(/^[a-z_]{1,8}$/).filter((text) => text !== '__proto__');
const { tree } = fc.letrec<{ tree: Tree }>((tie) => ({
  tree: fc.record({
    fields: fc.uniqueArray(
      fc.tuple(
        name,
        fc.array(
          fc.oneof(
            { depthSize: 'small' },
            fc.string({ unit: 'binary' }),
            fc.nat(),
            fc.boolean(),
            tie('tree'),
          ),
          { minLength: 1, maxLength: 3 },
        ),
      ),
      { selector: ([field]) => field, maxLength: 4 },
    ),
  }),
}));

describe('parseTextMessage', () => {
  it('reads back what protobuf prints', () => {
    holds(
      fc.property(tree, (tree) => {
        assert.deepEqual(parseTextMessage(printed(tree, '')), read(tree));
      }),
    );
  });

  it('never throws, whatever it is given', () => {
    holds(fc.property(fc.string({ unit: 'binary' }), (text) => void parseTextMessage(text)));
    holds(
      fc.property(tree, fc.nat(200), (tree, length) => {
        parseTextMessage(printed(tree, '').slice(0, length));
      }),
    );
  });
});

/** As DebugString does it: two blanks a level, everything but printable ASCII in octal. */
function printed({ fields }: Tree, indent: string): string {
  const lines = fields.flatMap(([field, values]) =>
    values.map((value) => {
      if (typeof value === 'object')
        return `${field} {\n${printed(value, `${indent}  `)}${indent}}`;
      return `${field}: ${typeof value === 'string' ? `"${escaped(value)}"` : value}`;
    }),
  );
  return lines.map((line) => `${indent}${line}\n`).join('');
}

function escaped(text: string): string {
  return [...Buffer.from(text)]
    .map((byte) => {
      const character = String.fromCharCode(byte);
      if (character === '\n') return '\\n';
      if (character === '"' || character === '\\' || character === "'") return `\\${character}`;
      return byte >= 0x20 && byte < 0x7f ? character : `\\${byte.toString(8).padStart(3, '0')}`;
    })
    .join('');
}

function read({ fields }: Tree): TextMessage {
  return new Map(
    fields.map(([field, values]) => [
      field,
      values.map((value): TextValue => {
        if (typeof value === 'object') return read(value);
        return typeof value === 'string' ? Buffer.from(value).toString() : String(value);
      }),
    ]),
  );
}
