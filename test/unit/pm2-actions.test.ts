import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Pm2EnvoyError } from '../../src/errors.js';
import { type Actions, createActions } from '../../src/pm2/actions.js';

/** Actions, and what they have sent to pm2. */
function makeActions(): { actions: Actions; sent: unknown[]; replies(): unknown[] } {
  const sent: unknown[] = [];
  const actions = createActions((message) => void sent.push(message));
  const replies = (): unknown[] =>
    sent
      .map((message) => message as { type: string; data: unknown })
      .filter(({ type }) => type === 'axm:reply')
      .map(({ data }) => data);
  return { actions, sent, replies };
}

describe('createActions', () => {
  it('announces an action by its name', () => {
    const { actions, sent } = makeActions();
    actions.offer('status', () => 'fine');
    assert.deepEqual(sent, [
      { type: 'axm:action', data: { action_name: 'status', opts: null, arity: 2 } },
    ]);
  });

  for (const message of ['status', { msg: 'status' }, { msg: 'status', opts: 'x', id: 1 }]) {
    it(`answers ${JSON.stringify(message)} with what the handler gives`, async () => {
      const { actions, replies } = makeActions();
      actions.offer('status', async () => ({ phase: 'idle' }));
      actions.hear(message);
      await actions.answered();
      assert.deepEqual(replies(), [{ action_name: 'status', return: { phase: 'idle' } }]);
    });
  }

  for (const message of ['other', '', null, undefined, 7, {}, { msg: 7 }, ['status']]) {
    it(`does not heed ${JSON.stringify(message)}`, async () => {
      const { actions, replies } = makeActions();
      actions.offer('status', () => assert.fail('it was called'));
      actions.hear(message);
      await actions.answered();
      assert.deepEqual(replies(), []);
    });
  }

  const faults = [
    { error: new Pm2EnvoyError('admin-gone', 'nobody'), code: 'admin-gone', message: 'nobody' },
    { error: new TypeError('oh'), code: 'internal', message: 'oh' },
    { error: 'a text', code: 'internal', message: 'a text' },
  ];
  for (const { error, code, message } of faults) {
    it(`answers what a handler throws with its text and ${code} (${message})`, async () => {
      const { actions, replies } = makeActions();
      actions.offer('status', () => {
        throw error;
      });
      actions.hear('status');
      await actions.answered();
      assert.deepEqual(replies(), [
        { action_name: 'status', return: { error: { code, message } } },
      ]);
    });
  }

  it('gives one answer to triggers that come while it is under way, and another one after it', async () => {
    const { actions, replies } = makeActions();
    let calls = 0;
    actions.offer('status', async () => {
      calls += 1;
      return calls;
    });
    actions.hear('status');
    actions.hear({ msg: 'status', opts: 'x' });
    await actions.answered();
    actions.hear('status');
    await actions.answered();
    assert.deepEqual(
      replies(),
      [1, 2].map((call) => ({ action_name: 'status', return: call })),
    );
  });

  it('waits in answered for those that come meanwhile, too', async () => {
    const { actions, replies } = makeActions();
    const ends: (() => void)[] = [];
    for (const name of ['shutdown', 'resume']) {
      actions.offer(name, () => new Promise<void>((resolve) => ends.push(resolve)));
    }
    actions.hear('shutdown');
    let isOver = false;
    const over = actions.answered().then(() => {
      isOver = true;
    });
    actions.hear('resume');
    ends[0]?.();
    await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual([isOver, replies().length], [false, 1]);
    ends[1]?.();
    await over;
    assert.equal(replies().length, 2);
  });

  it('answers what is abandoned with an error, once', async () => {
    const { actions, replies } = makeActions();
    const ends: (() => void)[] = [];
    actions.offer('shutdown', () => new Promise<void>((resolve) => ends.push(resolve)));
    actions.hear('shutdown');
    actions.abandon();
    actions.abandon();
    ends[0]?.();
    await actions.answered();
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(replies().length, 1);
    const { error } = (replies()[0] as { return: { error: { code: string } } }).return;
    assert.equal(error.code, 'leaving');
  });
});
