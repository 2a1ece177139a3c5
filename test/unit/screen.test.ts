import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { describe, it } from 'node:test';
import { openScreen, type Screen } from '../../src/cli/terminal/screen.js';
import type { Terminal } from '../../src/cli/terminal/terminal.js';
import { createScreenReader, type ScreenReader } from '../support/screen.js';

const ABOVE = '$ pm2-envoy shutdown';

/** A terminal with a line above what is drawn, which no one may touch. */
async function open(size: { width: number; height: number }): Promise<{
  screen: Screen;
  reader: ScreenReader;
  writes: string[];
  resize(width: number, height: number): void;
}> {
  const terminal = { tty: true, color: false, unicode: true, live: true };
  let now: Terminal = { ...terminal, ...size };
  const reader = createScreenReader(size.width, size.height);
  const writes: string[] = [];
  reader.write(`${ABOVE}\r\n`);
  const stream = Object.assign(new EventEmitter(), {
    isTTY: true,
    write: (text: string) => {
      writes.push(text);
      // As the terminal driver does.
      reader.write(text.replaceAll('\n', '\r\n'));
    },
  });
  return {
    screen: await openScreen(stream, () => now),
    reader,
    writes,
    resize: (width, height) => {
      now = { ...terminal, width, height };
      reader.resize(width, height);
      stream.emit('resize');
    },
  };
}

const FRAMES: readonly (readonly string[])[] = [
  ['a'],
  ['a', 'b', 'c', 'd'],
  ['a', 'd'],
  ['a', 'b', 'd'],
  ['x', 'b', 'd'],
  ['a', 'b', 'c', 'd', 'e', 'f'],
  ['a', 'f'],
  ['f'],
];

describe('openScreen', () => {
  it('shows just the last frame, whichever came before', async () => {
    for (const before of FRAMES) {
      for (const after of FRAMES) {
        const { screen, reader } = await open({ width: 20, height: 10 });
        for (const frame of [before, after]) {
          screen.show(() => frame);
          assert.deepEqual(reader.rows(), [ABOVE, ...frame], `${before} then ${after}`);
        }
      }
    }
  });

  it('writes a frame in one piece, between the marks that keep a terminal from showing a part', async () => {
    const { screen, writes } = await open({ width: 20, height: 10 });
    for (const frame of FRAMES) screen.show(() => frame);
    assert.equal(writes.length, FRAMES.length);
    for (const write of writes) {
      assert.equal(write.split('\u001b[?2026h').length, 2, JSON.stringify(write));
      assert.ok(write.endsWith('\u001b[?2026l'), JSON.stringify(write));
    }
  });

  it('writes nothing when nothing has changed', async () => {
    const { screen, writes } = await open({ width: 20, height: 10 });
    screen.show(() => ['a', 'b']);
    screen.show(() => ['a', 'b']);
    assert.equal(writes.join('').match(/a/g)?.length, 1);
  });

  it('takes away what a narrower terminal has broken, and draws for its size', async () => {
    const { screen, reader, resize } = await open({ width: 40, height: 20 });
    screen.show(({ width }) => ['-'.repeat(width), `${width}`, '='.repeat(width)]);
    for (const width of [20, 60, 30, 7]) {
      resize(width, 20);
      const above = width < 20 ? ['$ pm2-e', 'nvoy sh', 'utdown'] : [ABOVE];
      const frame = ['-'.repeat(width), `${width}`, '='.repeat(width)];
      assert.deepEqual(reader.rows(), [...above, ...frame], `at ${width}`);
    }
    assert.equal(reader.hasWrapped(), false);
  });

  it('makes room for what is to stay above it', async () => {
    const { screen, reader, resize } = await open({ width: 40, height: 10 });
    screen.show(() => ['a', 'b'.repeat(30)]);
    screen.clear();
    reader.write('a note\r\n');
    resize(30, 10);
    assert.deepEqual(reader.rows(), [ABOVE, 'a note', 'a', 'b'.repeat(30)]);
    screen.clear();
    resize(25, 10);
    assert.deepEqual(reader.rows().slice(0, 2), [ABOVE, 'a note']);
  });

  it('leaves the last frame standing, and is not drawn after its end', async () => {
    const { screen, reader, resize } = await open({ width: 20, height: 10 });
    screen.show(() => ['a', 'b']);
    screen.end();
    reader.write('the end\r\n');
    for (const late of [() => resize(30, 10), screen.redraw, screen.clear]) {
      late();
      assert.deepEqual(reader.rows(), [ABOVE, 'a', 'b', 'the end']);
    }
  });
});
