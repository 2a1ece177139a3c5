import assert from 'node:assert/strict';
import axe from 'axe-core';
import type { Browser, BrowserContextOptions, Page } from 'playwright-core';
import { patiently } from './wait.js';

/** The manager's page in a browser of its own. */
export interface OpenedPage {
  page: Page;
  /** Waits until an element reads so. */
  reads(selector: string, text: RegExp): Promise<string>;
  /** Presses keys, one after the other. */
  press(...keys: string[]): Promise<void>;
  /** Which element has the focus: its id. */
  focused(): Promise<string>;
  /** Goes to an element as the Tab key does. */
  tabTo(id: string): Promise<void>;
  /** Whether a button says that it may be pressed. */
  isPressable(id: string): Promise<boolean>;
  /** Faults that axe finds in the page as it is now, of those that keep people out. */
  barriers(): Promise<string[]>;
}

/**
 * Opens the page, and fails after `use` if the browser has logged an error, refused something because of
 * the Content-Security-Policy, or asked another host. A request that fails is logged by the browser itself:
 * `expected` are those that should.
 */
export async function withPage(
  browser: Browser,
  options: BrowserContextOptions & { url: string; expected?: RegExp },
  use: (opened: OpenedPage) => Promise<void>,
): Promise<void> {
  const { url, expected, ...contextOptions } = options;
  const context = await browser.newContext(contextOptions);
  const faults: string[] = [];
  try {
    const page = await context.newPage();
    page.on('pageerror', (error) => faults.push(String(error)));
    page.on('console', (message) => {
      if (!expected?.test(message.text())) faults.push(message.text());
    });
    page.on('request', (request) => {
      if (new URL(request.url()).origin !== new URL(url).origin) faults.push(request.url());
    });
    await page.goto(url);
    await use(open(page));
    assert.deepEqual(faults, []);
  } finally {
    await context.close();
  }
}

function open(page: Page): OpenedPage {
  const focused = (): Promise<string> => page.evaluate(() => document.activeElement?.id ?? '');
  return {
    page,
    reads: (selector, text) =>
      patiently(`${selector} to read ${text}`, async () => {
        const found = await page.innerText(selector);
        if (text.test(found)) return found || ' ';
        throw new Error(found);
      }),
    press: async (...keys) => {
      for (const key of keys) await page.keyboard.press(key);
    },
    focused,
    tabTo: async (id) => {
      for (let count = 0; count < 10; count += 1) {
        if ((await focused()) === id) return;
        await page.keyboard.press('Tab');
      }
      throw new Error(`Tab does not lead to ${id}`);
    },
    isPressable: async (id) => (await page.getAttribute(`#${id}`, 'aria-disabled')) === 'false',
    barriers: async () => {
      await page.evaluate(axe.source);
      const found = await page.evaluate(async () => {
        // biome-ignore lint/suspicious/noExplicitAny: axe is there since the line above
        const { violations } = await (globalThis as any).axe.run();
        return violations as { id: string; impact: string; nodes: { html: string }[] }[];
      });
      return found
        .filter(({ impact }) => impact !== 'minor')
        .map(
          ({ id, impact, nodes }) => `${impact} ${id}: ${nodes.map(({ html }) => html).join(' ')}`,
        );
    },
  };
}
