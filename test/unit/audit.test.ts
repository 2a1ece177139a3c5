import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, it } from 'node:test';
import { pathToFileURL } from 'node:url';

const ROOT = resolve(import.meta.dirname, '../..');

interface AuditScript {
  lockProblems(lock: object, manifest: object): string[];
  readAudit(output: string): { counts?: Record<string, number>; silent?: string };
}

const { lockProblems, readAudit } = (await import(
  pathToFileURL(join(ROOT, 'scripts/audit.js')).href
)) as AuditScript;

const GOOD = { version: '1.2.3', integrity: `sha512-${'A'.repeat(86)}==` };

/** The problems of a lock file with one package, which is good but for what is given. */
function problemsOf(entry: object, range = '^1.2.3', lockedRange = range): string[] {
  const lock = {
    packages: {
      '': { dependencies: { express: lockedRange } },
      'node_modules/express': { ...GOOD, ...entry },
    },
  };
  return lockProblems(lock, { dependencies: { express: range } });
}

describe('lockProblems', () => {
  it('finds none in our own lock file', () => {
    const read = (name: string) => JSON.parse(readFileSync(join(ROOT, name), 'utf8'));
    assert.deepEqual(lockProblems(read('package-lock.json'), read('package.json')), []);
  });

  it('finds none in a package that is pinned by its hash, with or without its address', () => {
    const resolved = 'https://registry.npmjs.org/express/-/express-1.2.3.tgz';
    assert.deepEqual([...problemsOf({}), ...problemsOf({ resolved })], []);
  });

  const bad: readonly [string, object, RegExp][] = [
    ['no hash', { integrity: undefined }, /has no sha512/],
    ['a weak hash', { integrity: 'sha1-AAAAAAAAAAAAAAAAAAAAAAAAAAA=' }, /has no sha512/],
    ['a git address', { resolved: 'git+ssh://git@github.com/x/y.git#abc' }, /is from git/],
    ['another registry', { resolved: 'https://registry.example/x.tgz' }, /is from https:/],
    ['plain HTTP', { resolved: 'http://registry.npmjs.org/x.tgz' }, /is from http:/],
    ['no version', { version: undefined }, /has no version/],
    ['a link', { link: true }, /is a link/],
    ['an install script', { hasInstallScript: true }, /runs an install script/],
  ];
  for (const [name, entry, expected] of bad) {
    it(`finds ${name}`, () => {
      const problems = problemsOf(entry);
      assert.equal(problems.length, 1);
      assert.match(problems[0] ?? '', expected);
    });
  }

  it('finds a dependency that is no version of the registry, or not the locked one', () => {
    for (const range of ['github:x/y', 'file:../x', 'https://example.com/x.tgz', '*', 'latest']) {
      assert.match(problemsOf({}, range)[0] ?? '', /is no version of the registry/);
    }
    assert.match(problemsOf({}, '^2.0.0', '^1.2.3')[0] ?? '', /the lock file has another range/);
  });
});

describe('readAudit', () => {
  it('reads the number of known holes by severity', () => {
    const output = JSON.stringify({ metadata: { vulnerabilities: { high: 1, total: 1 } } });
    assert.deepEqual(readAudit(output), { counts: { high: 1, total: 1 } });
  });

  it('says why there is no number', () => {
    assert.deepEqual(readAudit('{"message": "405 Method Not Allowed"}'), {
      silent: '405 Method Not Allowed',
    });
    assert.deepEqual(readAudit('{"error": {"summary": "offline"}}'), { silent: 'offline' });
    assert.ok(readAudit('').silent);
  });
});
