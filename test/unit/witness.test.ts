import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { areClosed, createWitness } from '../../src/drain/witness.js';
import { createFakeClock, createFakeEnvoy, targetOf } from './fakes.js';

describe('areClosed', () => {
  for (const [what, addresses, bound, expected] of [
    ['all listen', ['127.0.0.1:80', '[::1]:81'], ['tcp 127.0.0.1:80', 'tcp [::1]:81'], false],
    [
      'one is without a socket of its own',
      ['127.0.0.1:80', '127.0.0.1:81'],
      ['tcp 127.0.0.1:80'],
      false,
    ],
    ['none has a socket', ['127.0.0.1:80'], ['tcp 127.0.0.1:9901'], true],
    ['there is HTTP/3 alone', ['0.0.0.0:443'], ['udp 0.0.0.0:443'], false],
    [
      'HTTP/3 is left of two that share an address',
      ['0.0.0.0:443', '0.0.0.0:443'],
      ['udp 0.0.0.0:443'],
      true,
    ],
    [
      'HTTP/3 is left, and nothing of TCP',
      ['0.0.0.0:443', '0.0.0.0:80'],
      ['udp 0.0.0.0:443'],
      true,
    ],
    ['there is no address', [], [], false],
  ] as const) {
    it(`is ${expected} where ${what}`, () => {
      assert.equal(areClosed(addresses, new Set(bound)), expected);
    });
  }
});

describe('createWitness', () => {
  it('asks again after a no, as often as is affordable, and never after a yes', async () => {
    const envoy = createFakeEnvoy();
    const clock = createFakeClock();
    let asked = 0;
    envoy.admin.hasClosedListeners = async () => {
      asked += 1;
      return envoy.isClosed;
    };
    const witness = createWitness(clock);
    const target = targetOf(envoy);
    assert.equal(await witness.isClosed(target), false);
    envoy.isClosed = true;
    await clock.sleep(5_000);
    assert.equal(await witness.isClosed(target), true);
    await clock.sleep(60_000);
    assert.equal(await witness.isClosed(target), true);
    assert.equal(asked, 2);
  });

  it('takes an Envoy that does not answer for one that serves', async () => {
    const envoy = createFakeEnvoy();
    envoy.admin.hasClosedListeners = () => Promise.reject(new Error('no answer'));
    assert.equal(await createWitness(createFakeClock()).isClosed(targetOf(envoy)), false);
  });

  it('keeps apart what it knows of several Envoys', async () => {
    const [open, closed] = [createFakeEnvoy(), createFakeEnvoy()];
    closed.isClosed = true;
    const witness = createWitness(createFakeClock());
    assert.equal(await witness.isClosed(targetOf(closed)), true);
    assert.equal(await witness.isClosed(targetOf(open)), false);
  });
});
