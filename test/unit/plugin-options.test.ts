import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { OptionFormat, PluginSchema } from '../../src/plugins/api/types.js';
import { allowedOf, readOptions } from '../../src/plugins/options.js';

const SCHEMA: PluginSchema = {
  url: { format: 'url', doc: 'Where.' },
  name: { format: 'text', default: null, doc: 'Who.' },
  wait: { format: 'duration', default: '5s', doc: 'How long.' },
  level: { format: ['low', 'high'], default: 'low', doc: 'How much.' },
  token: { format: 'text', default: null, secret: true, doc: 'A secret.' },
};

const read = (given: object, env = {}) => readOptions(SCHEMA, { ...given }, env);

describe('readOptions', () => {
  it('gives defaults, durations in milliseconds, and nothing where nothing is set', () => {
    assert.deepEqual(read({ url: 'http://a', name: null }), {
      ...{ url: 'http://a', wait: 5_000, level: 'low' },
    });
    assert.equal(read({ url: 'http://a', wait: '1m' })['wait'], 60_000);
  });

  it('fills in variables, and never shows a secret', () => {
    const given = { url: `http://\${HOST}/`, token: `\${TOKEN}` };
    const { url, token } = read(given, { HOST: 'a', TOKEN: 'secret' });
    assert.deepEqual([url, token], ['http://a/', 'secret']);
    assert.throws(
      () => read({ url: 'http://a', token: 5 }),
      (error: Error) => {
        assert.equal(error.message, '"token": its value must be a text, not empty');
        return true;
      },
    );
  });

  it('names every mistake at once', () => {
    assert.throws(() => read({ lvel: 'low', level: 'middle', wait: 5, name: '' }), {
      code: 'plugin-invalid',
      message: [
        '"lvel" is not a known option (did you mean "level"?); known are url, name, wait, level, token',
        '"url" is missing: a URL that begins with http:// or https://. Where.',
        '"name": "" must be a text, not empty',
        '"wait": 5 must be a duration, such as 0s, 5s, 1m30s or 500ms',
        '"level": "middle" must be low or high',
      ].join('; '),
    });
  });

  for (const [format, right, wrong] of [
    ['flag', false, 'yes'],
    ['list', ['a'], 'a'],
    ['count', 0, -1],
    ['port', 65_535, 65_536],
    ['path', '/a', ''],
    ['positive duration', '1ms', '0s'],
    ['url', 'https://a', 'ftp://a'],
  ] as [OptionFormat, unknown, unknown][]) {
    it(`takes ${JSON.stringify(right)} as ${format}, and not ${JSON.stringify(wrong)} or null`, () => {
      const schema = { it: { format, doc: '' } };
      assert.ok('it' in readOptions(schema, { it: right }, {}));
      for (const value of [wrong, null]) {
        assert.throws(() => readOptions(schema, { it: value }, {}), /"it": .* must be/);
      }
    });
  }

  it('refuses a JSON Schema, and says what there is', () => {
    const schema = { type: 'object', properties: { url: {} } } as unknown as PluginSchema;
    assert.throws(
      () => readOptions(schema, {}, {}),
      /"type" has the format undefined in its schema; there are text, url, .*"properties" has the/,
    );
    assert.equal(
      allowedOf(schema['type']?.format as OptionFormat),
      'no format of ours (undefined)',
    );
  });

  it('refuses a schema with a format that there is not', () => {
    const schema = { it: { format: 'texts' as OptionFormat, doc: '' } };
    assert.throws(() => readOptions(schema, { it: 'a' }, {}), /has the format texts in its schema/);
  });
});
