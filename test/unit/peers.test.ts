import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Connection } from '../../src/host/sockets.js';
import { createPeerBook, mergePeers } from '../../src/status/peers.js';

function connection(inode: number, port = inode): Connection {
  return { peer: `10.0.0.7:${port}`, local: '10.0.0.1:443', localPort: 443, inode };
}

describe('createPeerBook', () => {
  it('orders those of the first look by the number of their socket', () => {
    const oldest = createPeerBook().oldest([connection(3), connection(1), connection(2)], 1_000);
    assert.deepEqual(
      oldest.map(({ peer, seenForMs }) => [peer, seenForMs]),
      [
        ['10.0.0.7:1', 0],
        ['10.0.0.7:2', 0],
        ['10.0.0.7:3', 0],
      ],
    );
  });

  it('says for how long it has seen each, and puts the longest first', () => {
    const book = createPeerBook();
    book.oldest([connection(5)], 1_000);
    const oldest = book.oldest([connection(2), connection(5)], 4_000);
    assert.deepEqual(
      oldest.map(({ peer, seenForMs }) => [peer, seenForMs]),
      [
        ['10.0.0.7:5', 3_000],
        ['10.0.0.7:2', 0],
      ],
    );
  });

  it('forgets one that was gone in between, although a later one has its number', () => {
    const book = createPeerBook();
    book.oldest([connection(5)], 1_000);
    book.oldest([], 2_000);
    assert.equal(book.oldest([connection(5)], 3_000)[0]?.seenForMs, 0);
  });

  it('names ten at most', () => {
    const many = Array.from({ length: 50 }, (_, index) => connection(index + 1));
    assert.equal(createPeerBook().oldest(many, 0).length, 10);
  });
});

describe('mergePeers', () => {
  it('gives the oldest of all', () => {
    const peer = (name: string, seenForMs: number) => ({
      peer: name,
      local: 'l',
      generation: 1,
      seenForMs,
    });
    const merged = mergePeers([[peer('a', 5), peer('b', 1)], [peer('c', 3)]]);
    assert.deepEqual(
      merged.map((one) => one.peer),
      ['a', 'c', 'b'],
    );
  });
});
