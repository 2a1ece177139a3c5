import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Request, Response } from 'express';
import { failed } from '../../src/manager/http/answers.js';
import { createFakeLog } from './fakes.js';

describe('failed', () => {
  it('ends the socket of a request that was answered before, and prints nothing', () => {
    const { log, entries } = createFakeLog();
    let isDestroyed = false;
    const socket = { destroy: () => (isDestroyed = true) };
    const handle = failed(log);
    handle(
      new Error('ERR_HTTP_HEADERS_SENT'),
      { socket } as unknown as Request,
      { headersSent: true } as Response,
      () => assert.fail('Express would print the stack'),
    );
    assert.equal(isDestroyed, true);
    assert.deepEqual(entries, []);
  });
});
