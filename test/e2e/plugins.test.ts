import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, it } from 'node:test';
import { preparePm2, type TestPm2 } from '../support/pm2.js';
import { eventually } from '../support/wait.js';

const ANNOUNCE = resolve(import.meta.dirname, '../../docs/examples/announce-plugin.js');
const SHUTDOWN = ['fail-health', 'delay', 'close', 'wait', 'finish'];

describe('the example plugin of the docs', { concurrency: 3 }, () => {
  const ways: readonly [string, (pm2: TestPm2) => Promise<unknown>][] = [
    ['/shutdown', (pm2) => pm2.http('POST', '/shutdown')],
    ['pm2 stop envoy', (pm2) => pm2.pm2('stop', 'envoy')],
    ['pm2 kill, which stops runner and manager together', (pm2) => pm2.pm2('kill')],
    [
      'the command line, with the manager down',
      async (pm2) => {
        await pm2.pm2('stop', 'envoy-manager');
        await pm2.cli('shutdown');
      },
    ],
  ];
  for (const [name, act] of ways) {
    it(`hears of each event of a drain once, by ${name}`, () =>
      withPlugin(async (pm2, events) => {
        await act(pm2);
        await eventually('the last event', () => events().length >= SHUTDOWN.length);
        assert.deepEqual(
          events(),
          SHUTDOWN.map((event) => `shutdown ${event}`),
        );
      }));
  }

  it('hears of the hand-over on pm2 reload envoy', () =>
    withPlugin(async (pm2, events) => {
      await pm2.pm2('reload', 'envoy');
      assert.deepEqual(
        events(),
        ['close', 'wait', 'finish'].map((event) => `handover ${event}`),
      );
    }));
});

describe('a plugin that hangs and one that throws', () => {
  it('never hold up a drain, are logged, and a required one only up to its time limit', async () => {
    const pm2 = await preparePm2();
    const plugin = join(pm2.folder, 'bad.mjs');
    writeFileSync(
      plugin,
      `export default class Bad {
        hooks = {
          'before:shutdown:fail-health': { run: () => new Promise(() => {}), required: true, timeoutMs: 700 },
          'before:shutdown:close': { run: () => new Promise(() => {}), timeoutMs: 900 },
          'after:shutdown:wait': () => { throw new Error('deliberately'); },
        };
      }`,
    );
    pm2.env['PM2_ENVOY_PLUGINS'] = plugin;
    try {
      await pm2.start();
      const { status, body } = await pm2.http('POST', '/shutdown');
      assert.deepEqual([status, JSON.parse(body).outcome], [200, 'drained']);
      const tookMs = JSON.parse(body).durationMs;
      assert.ok(tookMs >= 700, `${tookMs} ms`);
      const log = await eventually('both to be logged', () => {
        const text = pm2.log('envoy-manager');
        return text.includes('deliberately') && text.includes('in 900 ms') && text;
      });
      assert.match(
        log,
        /hook before:shutdown:fail-health of plugin .*bad.mjs did not end within 700 ms/,
      );
    } finally {
      await pm2.stop();
    }
  });
});

describe('a plugin whose timer throws in the middle of a drain', () => {
  it('does not end the manager, nor the drain', async () => {
    const pm2 = await preparePm2({ 'check-delay': '1s' });
    const plugin = join(pm2.folder, 'late.mjs');
    writeFileSync(
      plugin,
      `export default class Late {
        hooks = {
          'before:shutdown:delay': () => { setTimeout(() => { throw new Error('too late'); }, 50); },
        };
      }`,
    );
    pm2.env['PM2_ENVOY_PLUGINS'] = plugin;
    try {
      await pm2.start();
      const before = await pm2.pidOf('envoy-manager');
      const { status, body } = await pm2.http('POST', '/shutdown');
      assert.deepEqual([status, JSON.parse(body).outcome], [200, 'drained']);
      assert.equal(await pm2.pidOf('envoy-manager'), before);
      await eventually('it to be logged', () =>
        /continuing despite an error: too late/.test(pm2.log('envoy-manager')),
      );
    } finally {
      await pm2.stop();
    }
  });
});

async function withPlugin(
  use: (pm2: TestPm2, events: () => string[]) => Promise<void>,
): Promise<void> {
  const pm2 = await preparePm2();
  const file = join(pm2.folder, 'events.jsonl');
  pm2.env['PM2_ENVOY_PLUGINS'] = JSON.stringify([[ANNOUNCE, { file }]]);
  const events = (): string[] =>
    existsSync(file)
      ? readFileSync(file, 'utf8')
          .trim()
          .split('\n')
          .map((line) => JSON.parse(line))
          .map(({ command, event }) => `${command} ${event}`)
      : [];
  try {
    await pm2.start();
    await use(pm2, events);
  } finally {
    await pm2.stop();
  }
}
