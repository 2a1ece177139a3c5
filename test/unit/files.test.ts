import assert from 'node:assert/strict';
import {
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, it } from 'node:test';
import { createJson, readJson, writeJson } from '../../src/host/files.js';
import { makeTempFolder } from './fakes.js';

function newFile(): string {
  return join(makeTempFolder(), 'state.json');
}

describe('writeJson', () => {
  it('writes what readJson reads, for this user alone, and leaves no drafts', () => {
    const file = newFile();
    writeJson(file, { a: [1, null, 'ü'] });
    writeJson(file, { a: [2] });
    assert.deepEqual(readJson(file), { a: [2] });
    assert.equal(statSync(file).mode & 0o777, 0o600);
    assert.deepEqual(readdirSync(dirname(file)), ['state.json']);
  });

  it('leaves a reader who has the file open the old content whole', () => {
    const file = newFile();
    writeJson(file, { a: 'old' });
    const descriptor = openSync(file, 'r');
    writeJson(file, { a: 'new' });
    assert.equal(readFileSync(descriptor, 'utf8'), '{"a":"old"}');
    closeSync(descriptor);
  });

  it('fails where the folder is missing', () => {
    assert.throws(() => writeJson('/nowhere/at/all/state.json', {}), /ENOENT/);
  });
});

describe('createJson', () => {
  it('makes the file once, and says who has made it', () => {
    const file = newFile();
    assert.equal(createJson(file, { by: 'first' }), true);
    assert.equal(createJson(file, { by: 'second' }), false);
    assert.deepEqual(readJson(file), { by: 'first' });
    assert.equal(statSync(file).mode & 0o777, 0o600);
    assert.deepEqual(readdirSync(dirname(file)), ['state.json']);
  });

  it('takes a folder of that name for a file that is there', () => {
    const file = newFile();
    mkdirSync(file);
    assert.equal(createJson(file, {}), false);
    assert.deepEqual(readdirSync(dirname(file)), ['state.json']);
  });

  it('fails where the folder is missing', () => {
    assert.throws(() => createJson('/nowhere/at/all/state.json', {}), /ENOENT/);
  });
});

describe('readJson', () => {
  it('is undefined for what is missing, a folder or no JSON object', () => {
    const file = newFile();
    assert.equal(readJson(file), undefined);
    assert.equal(readJson(dirname(file)), undefined);
    for (const content of ['', '{', 'undefined', 'null', '5', '[]', '"text"']) {
      writeFileSync(file, content);
      assert.equal(readJson(file), undefined);
    }
  });
});
