import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { firstByteOf } from '../../src/steering/bootstrap-listeners.js';
import { attachNothingFilter, quicFilter, udpFilter } from '../../src/steering/filter.js';
import { runFilter } from '../support/bpf.js';

const OLD = { firstByte: firstByteOf(1), slots: [0, 1] };
const NEW = { firstByte: firstByteOf(2), slots: [2, 3] };
const TAIL = Buffer.alloc(30, 0x77);

/** A packet of an established connection. */
function short(mark: number, worker: number): Buffer {
  return Buffer.concat([Buffer.from([0x40, firstByteOf(mark), 1, 2, 3, 4, 5, worker]), TAIL]);
}

/** A packet with a long header; its type is in bits 4 and 5. */
function long(id: readonly number[], type = 0): Buffer {
  return Buffer.concat([Buffer.from([0xc0 | (type << 4), 0, 0, 0, 1, id.length, ...id]), TAIL]);
}

describe('quicFilter', () => {
  const filter = quicFilter([OLD, NEW]);

  it('sends the packets of a connection to its generation and worker', () => {
    assert.equal(runFilter(filter, short(1, 0)), 0);
    assert.equal(runFilter(filter, short(1, 1)), 1);
    assert.equal(runFilter(filter, short(2, 0)), 2);
    assert.equal(runFilter(filter, short(2, 1)), 3);
  });

  it('sends the rest of a handshake there too', () => {
    assert.equal(runFilter(filter, long([firstByteOf(1), 1, 2, 3, 4, 5, 1], 2)), 1);
    assert.equal(runFilter(filter, long([firstByteOf(2), 1, 2, 3, 4, 5, 0])), 2);
  });

  it('sends new connections to the newest generation, even if the id looks like one of the old', () => {
    for (let length = 8; length <= 20; length += 1) {
      const id = [firstByteOf(1), ...Array<number>(length - 1).fill(0)];
      assert.equal(runFilter(filter, long(id)), 2, `an id of ${length} bytes`);
      assert.equal(runFilter(filter, long([...id.slice(0, -1), 5])), 3);
    }
  });

  it('sends a worker that the generation does not have to one that it has', () => {
    assert.equal(runFilter(filter, short(1, 7)), 1);
  });

  it('sends what is no QUIC packet to the newest generation', () => {
    for (const length of [0, 1, 8]) {
      assert.ok(NEW.slots.includes(runFilter(filter, Buffer.alloc(length, 0x40))));
    }
    assert.ok(NEW.slots.includes(runFilter(filter, Buffer.alloc(10, 0xff))));
  });

  it('finds sockets in any order, and many of them', () => {
    const slots = Array.from({ length: 120 }, (_, worker) => 239 - worker);
    const many = quicFilter([
      { ...OLD, slots },
      { ...NEW, slots: slots.map((slot) => slot - 120) },
    ]);
    assert.equal(runFilter(many, short(1, 119)), 120);
    assert.equal(runFilter(many, short(2, 3)), 116);
  });

  it('takes for a generation without marks what no other has, by the first word of the id', () => {
    const mixed = quicFilter([
      { firstByte: undefined, slots: [0, 1, 2] },
      { ...NEW, slots: [3] },
    ]);
    const id = Buffer.from([0xab, 0xcd, 0xef, 0x01, 9, 9, 9, 9]);
    const expected = id.readUInt32BE(0) % 3;
    assert.equal(runFilter(mixed, Buffer.concat([Buffer.from([0x40]), id, TAIL])), expected);
    assert.equal(runFilter(mixed, long([...id], 2)), expected);
    assert.equal(runFilter(mixed, long([...id], 0)), 3);
    assert.equal(runFilter(mixed, short(2, 0)), 3);
  });

  it('sends a probe to the place that it names', () => {
    const cookie = Buffer.from('8 bytes!');
    const probing = quicFilter([OLD, NEW], cookie);
    assert.equal(runFilter(probing, Buffer.from([...cookie, 6])), 6);
    assert.equal(runFilter(probing, short(1, 1)), 1);
  });
});

describe('udpFilter', () => {
  const header = (port: number): Buffer => {
    const ip = Buffer.alloc(60);
    ip.writeUInt8(0x45, 0);
    ip.writeUInt32BE(0x7f000001, 12);
    ip.writeUInt16BE(port, 20);
    return ip;
  };

  it('sends one source to one worker, and many to all of them', () => {
    const filter = udpFilter([4, 6, 5]);
    const places = Array.from({ length: 300 }, (_, index) =>
      runFilter(filter, Buffer.from('x'), header(40_000 + index)),
    );
    assert.deepEqual([...new Set(places)].sort(), [4, 5, 6]);
    assert.equal(runFilter(filter, Buffer.alloc(0), header(40_000)), places[0]);
  });

  it('knows IPv6 sources', () => {
    const ip = Buffer.alloc(60);
    ip.writeUInt8(0x60, 0);
    ip.writeUInt16BE(1, 40);
    const filter = udpFilter([0, 1, 2, 3]);
    const first = runFilter(filter, Buffer.alloc(9), ip);
    assert.ok(
      Array.from({ length: 50 }, (_, port) => {
        ip.writeUInt16BE(port, 40);
        return runFilter(filter, Buffer.alloc(9), ip);
      }).some((place) => place !== first),
    );
  });
});

describe('attachNothingFilter', () => {
  const [SUCCEED, ALLOW] = [0x00050000, 0x7fff0000];
  /** struct seccomp_data, with words as the filter loads them: in the machine's order. */
  const call = (number: number, ...args: number[]): Buffer => {
    const words = [number, 0xc000003e, 0, 0, ...args.flatMap((one) => [one, 0])];
    const data = Buffer.alloc(64);
    for (const [index, word] of words.entries()) data.writeUInt32BE(word, index * 4);
    return data;
  };

  it('has a program attached by no one, and all else as it was', () => {
    const filter = attachNothingFilter('x64');
    assert.ok(filter);
    assert.equal(runFilter(filter, call(54, 9, 1, 51)), SUCCEED);
    assert.equal(runFilter(filter, call(54, 9, 1, 15)), ALLOW);
    assert.equal(runFilter(filter, call(54, 9, 6, 51)), ALLOW);
    assert.equal(runFilter(filter, call(1, 9, 1, 51)), ALLOW);
  });

  it('is not known for other processors', () => {
    assert.equal(attachNothingFilter('ppc64'), undefined);
  });
});
