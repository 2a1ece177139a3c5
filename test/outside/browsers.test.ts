import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { Browser, Page } from 'playwright-core';
import { ATTACKER, startBrowser, startSite } from '../support/browser.js';
import { startTestEnvoy, type TestEnvoy } from '../support/envoy.js';
import { startManager, type TestManager } from '../support/manager.js';
import { freePorts } from '../support/ports.js';
import { eventually } from '../support/wait.js';

/** What a page can do to a URL; it runs in the browser. */
const ATTACKS: Readonly<Record<string, (url: string) => Promise<void>>> = {
  'fetch by POST': async (url) => {
    // The answer is kept from the page (Cross-Origin-Resource-Policy); the request was sent all the same.
    await fetch(url, { method: 'POST', mode: 'no-cors' }).catch(() => undefined);
  },
  'fetch by GET': async (url) => {
    await fetch(url, { mode: 'no-cors', referrerPolicy: 'no-referrer' }).catch(() => undefined);
  },
  '<img>': (url) =>
    new Promise((resolve) => {
      const image = new Image();
      image.onload = image.onerror = () => resolve();
      image.referrerPolicy = 'no-referrer';
      image.src = url;
    }),
  '<script>': (url) =>
    new Promise((resolve) => {
      const script = document.createElement('script');
      script.onload = script.onerror = () => resolve();
      script.src = url;
      document.body.append(script);
    }),
  '<iframe>': (url) =>
    new Promise((resolve) => {
      const frame = document.createElement('iframe');
      frame.onload = () => resolve();
      frame.src = url;
      document.body.append(frame);
    }),
  'a beacon': async (url) => {
    navigator.sendBeacon(url, 'x');
  },
  '<form method=post>': async (url) => {
    const form = document.createElement('form');
    form.method = 'post';
    form.action = url;
    document.body.append(form);
    form.submit();
  },
  '<form method=get>': async (url) => {
    const form = document.createElement('form');
    form.action = url;
    document.body.append(form);
    form.submit();
  },
  'a link': async (url) => {
    const link = document.createElement('a');
    link.href = url;
    link.rel = 'noreferrer';
    document.body.append(link);
    link.click();
  },
  'another window': async (url) => {
    window.open(url, '_blank', 'noreferrer');
  },
};

/** Ways to write this host that a browser takes. */
const HOSTS = ['127.0.0.1', 'localhost', '0.0.0.0', '[::ffff:127.0.0.1]'];

describe('a real browser', () => {
  let envoy: TestEnvoy;
  let manager: TestManager;
  let browser: Browser;
  let site: Awaited<ReturnType<typeof startSite>>;

  before(async () => {
    envoy = await startTestEnvoy();
    const [port = 0] = await freePorts(1);
    manager = await startManager({
      folder: envoy.folder,
      port,
      settings: { 'admin-address': envoy.adminUrl, 'serve-address': '0.0.0.0' },
    });
    site = await startSite();
    browser = await startBrowser();
  });
  after(async () => {
    await browser?.close();
    site?.close();
    await manager?.stop();
    await envoy?.stop();
  });

  /** Opens a page in a browser of its own, and closes it after. */
  const onPage = async (url: string, use: (page: Page) => Promise<unknown>): Promise<void> => {
    // Our own pages forbid scripts, by their Content-Security-Policy.
    const context = await browser.newContext({ bypassCSP: true });
    try {
      const page = await context.newPage();
      await page.goto(url);
      await use(page);
    } finally {
      await context.close();
    }
  };
  /** Does something, and waits until the manager has refused one more request. */
  const isRefused = async (name: string, act: () => Promise<unknown>): Promise<void> => {
    const refusals = (): number => manager.log().split('refused: ').length - 1;
    const hasDrained = async () => (await envoy.admin.state()) !== 'LIVE';
    const earlier = refusals();
    await act();
    await eventually(
      `${name} to be refused`,
      async () => refusals() > earlier || (await hasDrained()),
    );
    assert.equal(await hasDrained(), false, `${name} drained Envoy`);
  };

  for (const host of HOSTS) {
    it(`can’t drain by anything on someone else’s page, to ${host}`, () =>
      onPage('about:blank', async (start) => {
        for (const [name, attack] of Object.entries(ATTACKS)) {
          const page = await start.context().newPage();
          await page.goto(`http://${ATTACKER}:${site.port}/`);
          await isRefused(name, () =>
            page.evaluate(attack, `http://${host}:${manager.port}/shutdown`),
          );
        }
      }));
  }

  it('can’t drain from another port of localhost, which is the same site', () =>
    onPage(`http://localhost:${site.port}/`, (page) =>
      isRefused('it', () =>
        page.evaluate(
          ATTACKS['<img>'] ?? assert.fail(),
          `http://localhost:${manager.port}/shutdown`,
        ),
      ),
    ));

  it('can’t drain by an <img> that redirects', () =>
    onPage(`http://${ATTACKER}:${site.port}/`, (page) =>
      isRefused('it', () =>
        page.evaluate(
          ATTACKS['<img>'] ?? assert.fail(),
          `/to?${encodeURIComponent(`http://127.0.0.1:${manager.port}/shutdown`)}`,
        ),
      ),
    ));

  it('can’t drain by an address that was opened in it and redirects', () =>
    onPage('about:blank', (page) =>
      isRefused('it', () =>
        page.goto(
          `http://${ATTACKER}:${site.port}/to?${encodeURIComponent(`http://127.0.0.1:${manager.port}/shutdown`)}`,
        ),
      ),
    ));

  it('can’t drain or look by a name that leads here (DNS rebinding)', () =>
    onPage(`http://${ATTACKER}:${manager.port}/healthz`, async (page) => {
      for (const [path, method] of [
        ['/shutdown', 'POST'],
        ['/shutdown', 'GET'],
        ['/status', 'GET'],
      ] as const) {
        await isRefused(`${method} ${path}`, async () => {
          const status = await page.evaluate(
            async ({ path, method }) => (await fetch(path, { method })).status,
            { path, method },
          );
          assert.equal(status, 403);
        });
      }
    }));

  it('can look from here, and in the end drain', () =>
    onPage(`http://127.0.0.1:${manager.port}/status`, async (page) => {
      assert.equal(JSON.parse(await page.innerText('body')).envoy.state, 'LIVE');
      const answer = await page.evaluate(async () => {
        const reply = await fetch('/shutdown', { method: 'POST' });
        return (await reply.json()).outcome;
      });
      assert.equal(answer, 'drained');
      assert.equal(await envoy.admin.state(), 'DRAINING');
    }));
});
