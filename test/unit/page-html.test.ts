import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { html, type Part } from '../../src/manager/page/html.js';
import { HOSTILE } from './page-states.js';

const ESCAPED = '&lt;/script&gt;&lt;img src=x onerror=&quot;alert(&#39;1&#39;)&quot;&gt;&amp;amp;';

describe('html', () => {
  it('escapes text in content, in attributes and in lists', () => {
    assert.equal(
      String(html`<p title="${HOSTILE}">${HOSTILE}</p>`),
      `<p title="${ESCAPED}">${ESCAPED}</p>`,
    );
    assert.equal(String(html`${[[HOSTILE], 'a']}`), `${ESCAPED}a`);
  });

  it('takes what it has made as it is, and escapes nothing twice', () => {
    const inner = html`<b>${'<'}</b>`;
    assert.equal(String(html`<p>${inner}${[inner]}</p>`), '<p><b>&lt;</b><b>&lt;</b></p>');
  });

  it('takes nothing else for HTML, however it looks', () => {
    const lookalike = { toString: () => HOSTILE } as unknown as Part;
    assert.equal(String(html`${lookalike}`), ESCAPED);
  });

  it('leaves out null, undefined and false, and keeps 0', () => {
    assert.equal(String(html`${null}${undefined}${false}${0}${''}`), '0');
  });
});
