import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createObserver } from '../../src/status/observer.js';
import type { Status } from '../../src/status/status.js';
import { eventually } from '../support/wait.js';
import { createFakeClock, idleStatus } from './fakes.js';

/** An observer whose reads give these in turn, and the last one forever after. */
function observing(...reads: (Status | Error)[]) {
  let count = 0;
  const observer = createObserver({
    clock: createFakeClock(),
    read: async () => {
      const next = reads[Math.min(count, reads.length - 1)] ?? assert.fail('no read');
      count += 1;
      if (next instanceof Error) throw next;
      return next;
    },
  });
  const seen: Status[] = [];
  const stop = observer.watch((status) => seen.push(status));
  return { observer, seen, stop, reads: () => count };
}

describe('createObserver', () => {
  it('tells the first status and each that differs, and none that is only later', async () => {
    const later = { ...idleStatus, lastPoll: { at: 'later', tookMs: 1 }, paceLeftMs: 5 };
    const changed = { ...idleStatus, phase: 'wait' as const, timeLeftMs: 9 };
    const { seen, stop, reads } = observing(idleStatus, later, changed, {
      ...changed,
      timeLeftMs: 8,
    });
    await eventually('some reads', () => reads() > 6);
    stop();
    assert.deepEqual(
      seen.map(({ phase }) => phase),
      ['idle', 'wait'],
    );
  });

  it('goes on after a read that failed', async () => {
    const { seen, stop } = observing(new Error('no file descriptor is left'), idleStatus);
    await eventually('a status', () => seen.length > 0);
    stop();
  });

  it('reads nothing once no one watches, and begins again for the next one', async () => {
    const { observer, seen, stop, reads } = observing(idleStatus);
    await eventually('a status', () => seen.length > 0);
    stop();
    await eventually('the end of the round', () => reads() > 0);
    await new Promise((resolve) => setImmediate(resolve));
    await new Promise((resolve) => setImmediate(resolve));
    const before = reads();
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(reads(), before);
    const again: Status[] = [];
    const stopAgain = observer.watch((status) => again.push(status));
    await eventually('it', () => again.length > 0);
    stopAgain();
  });
});
