import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { resolve } from 'node:path';
import { describe, it } from 'node:test';
import { section } from '../support/pages.js';
import { CASES, TABLES } from '../support/pm2-commands.js';

const PAGE = readFileSync(resolve(import.meta.dirname, '../../docs/pm2.md'), 'utf8');
const CLI = readFileSync(createRequire(import.meta.url).resolve('pm2/lib/binaries/CLI.js'), 'utf8');
const rows = TABLES.flatMap((table) => table.rows);

describe('docs/pm2.md, section Commands', () => {
  it('has rows that test/pm2/commands.test.ts can run: commands, or a case of their own', () => {
    assert.ok(rows.length > 30);
    for (const { what, commands } of rows) {
      assert.ok(commands.length > 0 || CASES[what]?.run, `nothing runs the row ${what}`);
      const prose = commands.reduce((text, command) => text.replace(command, ''), what);
      const isListOnly = /^[ ,]*$/.test(prose);
      assert.ok(isListOnly || CASES[what], `the row ${what} says more than its commands`);
    }
  });

  it('has no row twice, and a row for each case', () => {
    const names = rows.map(({ what }) => what);
    assert.deepEqual([...new Set(names)], names);
    for (const name of Object.keys(CASES)) assert.ok(names.includes(name), name);
  });

  it('names every command of pm2', () => {
    const text = section(PAGE, 'Commands') + section(PAGE, 'The module');
    const code = CLI.replace(/\/\*[\s\S]*?\*\//g, '');
    const known = [...code.matchAll(/\.command\('([\w:]+)/g)].map(([, name]) => name);
    assert.ok(known.length > 60);
    const missing = known.filter((name) => !new RegExp(`\`(?:pm2 )?${name}[ \`]`).test(text));
    assert.deepEqual(missing, []);
  });
});
