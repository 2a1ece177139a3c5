import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { describe, it } from 'node:test';
import { parseDocument } from 'yaml';
import { parseDuration } from '../../src/config/duration.js';
import { AFTER_DRAIN_MS } from '../../src/config/grace-period.js';
import { loadConfig } from '../../src/config/load.js';
import { isKey, type Key, specOf, variableOf } from '../../src/config/schema.js';
import {
  blocksOf,
  markdownFiles,
  type PodSpec,
  podsIn,
  section,
  tablesOf,
  variablesOf,
} from '../support/pages.js';

const ROOT = resolve(import.meta.dirname, '../..');
const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');
const DOCS = markdownFiles(join(ROOT, 'docs')).map((file) => relative(ROOT, file));
const PAGES = ['README.md', ...DOCS];

describe('YAML on a page', () => {
  const blocks = PAGES.flatMap((path) =>
    blocksOf(read(path), 'yaml').map((text) => ({ path, text })),
  );
  const pods = blocks
    .flatMap(({ path, text }) =>
      podsIn(parseDocument(text).toJS()).map((pod: PodSpec) => ({ path, pod })),
    )
    .filter(({ pod }) => /pm2-envoy|PM2_ENVOY/.test(JSON.stringify(pod)));

  it('parses', () => {
    for (const { path, text } of blocks) {
      const [error] = parseDocument(text).errors;
      assert.equal(error, undefined, `${path}: ${error?.message}`);
    }
  });

  it('gives every pod with pm2-envoy a grace period that covers its drain', () => {
    // Those that are built from deploy/kubernetes are in test/deploy/manifests.test.ts.
    assert.ok(pods.length >= 2, `only ${pods.length} pods found`);
    for (const { path, pod } of pods) {
      const drainTimeoutMs = parseDuration(settingOf(pod, 'drain-timeout'));
      const graceMs = Number(pod.terminationGracePeriodSeconds) * 1_000;
      assert.ok(
        graceMs >= drainTimeoutMs + AFTER_DRAIN_MS,
        `${path}: terminationGracePeriodSeconds is ${pod.terminationGracePeriodSeconds}`,
      );
    }
  });

  it('sets what the configuration takes', () => {
    for (const { path, pod } of pods) {
      const env = Object.fromEntries(
        variablesOf(pod)
          .filter(({ name }) => name !== variableOf('shutdown-token-file'))
          .map(({ name, value }) => [name, value]),
      );
      assert.doesNotThrow(() => loadConfig({ env, cwd: ROOT }), path);
    }
  });
});

describe('docs/from-contour.md', () => {
  const tables = tablesOf(section(read('docs/from-contour.md'), 'Options'));

  it('names keys that exist, with their defaults', () => {
    assert.equal(tables.length, 2);
    for (const { header, rows } of tables) {
      const at = header.indexOf('key here');
      const named = rows.filter((cells) => cells[at]?.startsWith('`'));
      assert.ok(named.length > 0, `no keys below "key here" in ${header.join(', ')}`);
      for (const cells of named) {
        const key = cells[at]?.replaceAll('`', '') ?? '';
        assert.ok(isKey(key), `there is no key ${key}`);
        assert.equal(cells[at + 1], shownDefault(key), key);
      }
    }
  });

  it('explains them by keys that exist', () => {
    const cells = tables.flatMap(({ rows }) => rows.map((row) => row.at(-1) ?? ''));
    for (const [, name = ''] of cells.join('\n').matchAll(/`([a-z]+(?:-[a-z]+)+)`/g)) {
      assert.ok(isKey(name), `there is no key ${name}`);
    }
  });
});

/** What a pod sets of a key, else the default. */
function settingOf(pod: PodSpec, key: Key): string {
  const set = variablesOf(pod).find(({ name }) => name === variableOf(key))?.value;
  return set ?? String(specOf(key).default);
}

/** A default as a table shows it. */
function shownDefault(key: Key): string {
  const { default: value } = specOf(key);
  if (value === null) return 'none';
  return `\`${typeof value === 'string' ? value : JSON.stringify(value)}\``;
}
