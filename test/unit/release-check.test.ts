import assert from 'node:assert/strict';
import { join, resolve } from 'node:path';
import { describe, it } from 'node:test';
import { pathToFileURL } from 'node:url';

const ROOT = resolve(import.meta.dirname, '../..');
const { releaseProblems, notesOf } = (await import(
  pathToFileURL(join(ROOT, 'scripts/release-check.js')).href
)) as {
  releaseProblems(tag: string, manifest: object, changelog: string): string[];
  notesOf(tag: string, changelog: string): string | undefined;
};

const MANIFEST = { version: '1.2.3', repository: 'r', bugs: 'b', homepage: 'h', author: 'a' };
const CHANGELOG = `# Changelog

## [Unreleased]

## [1.2.3] - 2026-12-01

### Fixed

- Something.

## [1.2.2] - 2026-11-01

- Something older.
`;

describe('releaseProblems', () => {
  it('finds none where everything is there', () => {
    assert.deepEqual(releaseProblems('v1.2.3', MANIFEST, CHANGELOG), []);
  });

  for (const field of ['repository', 'bugs', 'homepage', 'author']) {
    it(`refuses a package.json without ${field}`, () => {
      const problems = releaseProblems('v1.2.3', { ...MANIFEST, [field]: undefined }, CHANGELOG);
      assert.equal(problems.length, 1);
      assert.match(problems[0] ?? '', new RegExp(`no ${field}`));
    });
  }

  it('refuses a tag of another version', () => {
    const problems = releaseProblems('v1.2.2', MANIFEST, CHANGELOG);
    assert.deepEqual(problems, ['the tag is v1.2.2, and package.json says 1.2.3']);
  });

  it('refuses a version that the changelog does not have, or without a date or an entry', () => {
    for (const changelog of [
      CHANGELOG.replace('[1.2.3]', '[1.2.4]'),
      CHANGELOG.replace(' - 2026-12-01', ''),
      CHANGELOG.replace('- Something.', ''),
    ]) {
      assert.match(releaseProblems('v1.2.3', MANIFEST, changelog)[0] ?? '', /CHANGELOG/);
    }
  });
});

describe('notesOf', () => {
  it('has the entries of that version alone', () => {
    assert.equal(notesOf('v1.2.3', CHANGELOG), '### Fixed\n\n- Something.');
  });
});
