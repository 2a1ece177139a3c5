import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { shareInFlight } from '../../src/share.js';

interface Answer {
  resolve(value: string): void;
  reject(error: Error): void;
}

/** A shared call whose answers tests give one by one. */
function setUp() {
  const answers: Answer[] = [];
  const shared = shareInFlight(
    () =>
      new Promise<string>((resolve, reject) => {
        answers.push({ resolve, reject });
      }),
  );
  return { shared, answers };
}

describe('shareInFlight', () => {
  it('makes one call for all who ask while it is under way', async () => {
    const { shared, answers } = setUp();
    const asked = [shared(), shared(), shared()];
    assert.equal(answers.length, 1);
    answers[0]?.resolve('a');
    assert.deepEqual(await Promise.all(asked), ['a', 'a', 'a']);
  });

  it('calls again once it has ended', async () => {
    const { shared, answers } = setUp();
    const first = shared();
    answers[0]?.resolve('a');
    assert.equal(await first, 'a');
    const second = shared();
    answers[1]?.resolve('b');
    assert.equal(await second, 'b');
  });

  it('hands a failure to all who asked, and calls again afterwards', async () => {
    const { shared, answers } = setUp();
    const asked = [shared(), shared()];
    answers[0]?.reject(new Error('no answer'));
    for (const promise of asked) await assert.rejects(promise, /no answer/);
    const again = shared();
    answers[1]?.resolve('b');
    assert.equal(await again, 'b');
  });

  it('does not share between two functions made of it', () => {
    let calls = 0;
    const call = async () => {
      calls += 1;
    };
    void shareInFlight(call)();
    void shareInFlight(call)();
    assert.equal(calls, 2);
  });
});
