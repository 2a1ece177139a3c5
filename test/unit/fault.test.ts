import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createFaultFinder } from '../../src/envoy/fault.js';

const PREFIX = '[2026-11-29 02:17:53.842][55][critical][main] [source/server/server.cc:427] ';

function found(...parts: string[]): string | undefined {
  const finder = createFaultFinder();
  for (const part of parts) finder.see(part);
  return finder.found();
}

describe('createFaultFinder', () => {
  it('finds the last critical line without its prefix, however the output comes', () => {
    const text = `[x][1][info][main] [a.cc:1] up\n${PREFIX}first\n${PREFIX}cannot  bind '0.0.0.0:80'\n[x][1][info][main] [a.cc:1] exiting\n`;
    assert.equal(found(text), "cannot bind '0.0.0.0:80'");
    assert.equal(found(...text), "cannot bind '0.0.0.0:80'");
  });

  it('takes the lines that belong to it, as one', () => {
    const text = `${PREFIX}error: has {\n  a: 1\n}\n: Proto constraint  failed\n[x][1][info][main] [a.cc:1] exiting`;
    assert.equal(found(text), 'error: has { a: 1 } : Proto constraint failed');
  });

  it('cuts the middle out of a long one', () => {
    const text = found(`${PREFIX}begin ${'x'.repeat(5_000)} end`) ?? '';
    assert.match(text, /^begin x+ … x+ end$/);
    assert.ok(text.length < 520);
  });

  it('takes the last line of what is no log of Envoy’s, and nothing of nothing', () => {
    assert.equal(found('sh: not found\n'), 'sh: not found');
    assert.equal(found('\n'), undefined);
  });
});
