import assert from 'node:assert/strict';
import type { IncomingHttpHeaders } from 'node:http';
import { describe, it } from 'node:test';
import { type AccessRequest, checkAccess, isLoopback } from '../../src/manager/http/access.js';

const TOKEN = 'correct horse battery staple';

/** A plain call on this host, such as curl's. */
function local(headers: IncomingHttpHeaders = {}, remoteAddress = '127.0.0.1'): AccessRequest {
  return { remoteAddress, headers: { host: '127.0.0.1:8090', ...headers } };
}

function isTrusted(request: AccessRequest, token?: string): boolean {
  return checkAccess(request, token).trusted;
}

function reasonOf(request: AccessRequest): string {
  const access = checkAccess(request, undefined);
  return access.trusted ? '' : access.reason;
}

describe('isLoopback', () => {
  for (const address of [
    '127.0.0.1',
    '127.5.5.5',
    '127.255.255.254',
    '::1',
    '::ffff:127.0.0.1',
    '::FFFF:127.0.0.1',
    '::ffff:127.5.5.5',
  ]) {
    it(`holds for ${address}`, () => assert.equal(isLoopback(address), true));
  }

  for (const address of [
    undefined,
    '',
    '10.0.0.1',
    '192.168.1.127',
    '128.0.0.1',
    '1.127.0.0',
    '0.0.0.0',
    '::',
    '::2',
    '::11',
    'fe80::1',
    '::ffff:10.0.0.1',
    '::ffff:1.127.0.0',
    '127.0.0.1.evil.com',
    '127.evil.com',
    '127.',
    '127.0.0.256',
    'localhost',
  ]) {
    it(`does not hold for ${address}`, () => assert.equal(isLoopback(address), false));
  }
});

describe('checkAccess by peer', () => {
  for (const address of ['127.0.0.1', '127.5.5.5', '::1', '::ffff:127.0.0.1']) {
    it(`trusts a plain call from ${address}`, () => {
      assert.deepEqual(checkAccess(local({}, address), undefined), { trusted: true });
    });
  }

  for (const address of ['10.1.2.3', '::ffff:10.1.2.3', 'fe80::1', '2001:db8::127']) {
    it(`refuses a plain call from ${address}`, () => {
      assert.match(reasonOf(local({}, address)), /another host/);
    });
  }

  it('refuses a peer that has hung up', () => {
    assert.equal(
      isTrusted({ remoteAddress: undefined, headers: { host: '127.0.0.1:8090' } }),
      false,
    );
  });

  it('does not believe a header about the peer', () => {
    for (const name of ['x-real-ip', 'client-ip', 'x-client-ip']) {
      assert.equal(isTrusted(local({ [name]: '127.0.0.1' }, '10.1.2.3')), false);
    }
  });
});

describe('checkAccess by proxy headers', () => {
  const signs: IncomingHttpHeaders = {
    'x-forwarded-for': '10.0.0.1',
    'x-forwarded-proto': 'https',
    'x-forwarded-host': '127.0.0.1',
    forwarded: 'for=10.0.0.1',
    via: '1.1 envoy',
    'x-envoy-external-address': '10.0.0.1',
    'x-envoy-expected-rq-timeout-ms': '15000',
    'x-envoy-internal': 'true',
  };
  for (const [name, value] of Object.entries(signs)) {
    it(`refuses ${name}, though the peer is loopback, and names it`, () => {
      const reason = reasonOf(local({ [name]: value }));
      assert.match(reason, /proxy/);
      assert.ok(reason.includes(name));
    });
  }

  it('refuses a proxy header without a value, or with the address of this host', () => {
    assert.equal(isTrusted(local({ 'x-forwarded-for': '' })), false);
    assert.equal(isTrusted(local({ 'x-forwarded-for': '127.0.0.1' })), false);
    assert.equal(isTrusted(local({ forwarded: '' })), false);
  });

  it('trusts headers that only resemble them', () => {
    assert.equal(isTrusted(local({ 'x-environment': 'a', 'x-forward': 'b', viable: 'c' })), true);
  });
});

describe('checkAccess by Host', () => {
  for (const host of [
    '127.0.0.1',
    '127.0.0.1:8090',
    '[::1]',
    '[::1]:8090',
    'localhost',
    'localhost:8090',
    '192.168.1.5:8090',
    '0.0.0.0:8090',
  ]) {
    it(`trusts ${host}`, () => assert.equal(isTrusted(local({ host })), true));
  }

  for (const host of [
    '',
    'evil.com',
    'evil.com:8090',
    '127.0.0.1.evil.com',
    '127.0.0.1.evil.com:8090',
    'localhost.evil.com',
    'evil.localhost',
    'evil.com@127.0.0.1',
    '127.0.0.1@evil.com',
    '127.0.0.1:8090.evil.com',
    '127.0.0.1:evil',
    '127.0.0.1:80:80',
    '[::1].evil.com',
    '[evil.com]',
    '[127.0.0.1]',
    '[]',
    '::1',
    '127.1',
    '2130706433',
    '0x7f.0.0.1',
    '127.0.0.1 evil.com',
    '127.0.0.1\nevil.com',
    'kubernetes',
  ]) {
    it(`refuses ${JSON.stringify(host)}: a page of someone else’s may have made it up`, () => {
      assert.match(reasonOf(local({ host })), /Host/);
    });
  }

  it('refuses a call without Host', () => {
    assert.equal(isTrusted({ remoteAddress: '127.0.0.1', headers: {} }), false);
  });
});

describe('checkAccess by Sec-Fetch-Site', () => {
  const sites: readonly [string, boolean][] = [
    ['same-origin', true],
    ['none', true],
    ['same-site', false],
    ['cross-site', false],
    ['', false],
    ['Same-Origin', false],
    ['same-origin, cross-site', false],
    ['anything', false],
  ];
  for (const [site, trusted] of sites) {
    it(`${trusted ? 'trusts' : 'refuses'} ${JSON.stringify(site)}`, () => {
      assert.equal(isTrusted(local({ 'sec-fetch-site': site })), trusted);
    });
  }
});

describe('checkAccess by what a browser leaves out', () => {
  const agent = 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/156.0.0.0 Safari/537.36';

  for (const host of ['0.0.0.0:8090', '[::ffff:7f00:1]:8090', '192.168.1.5:8090', '127.0.0.1']) {
    it(`refuses an <img> to ${host} that comes with neither Origin nor Sec-Fetch-Site`, () => {
      assert.match(
        reasonOf(local({ host, 'user-agent': agent })),
        /without saying from which site/,
      );
    });
  }

  it('trusts a browser that says it is on our own page, or on none', () => {
    for (const site of ['same-origin', 'none']) {
      assert.equal(isTrusted(local({ 'user-agent': agent, 'sec-fetch-site': site })), true);
    }
  });

  it('trusts what is no browser on any address of this host', () => {
    for (const userAgent of ['curl/7.88.1', 'Wget/1.21', 'kube-probe/1.34', 'node', 'xMozilla/5']) {
      const headers = { host: '0.0.0.0:8090', 'user-agent': userAgent };
      assert.equal(isTrusted(local(headers)), true, userAgent);
    }
  });
});

describe('checkAccess by where a browser was led to', () => {
  const led = { 'sec-fetch-site': 'none', 'sec-fetch-mode': 'navigate', 'sec-fetch-user': '?1' };

  it('refuses a change by an address that was opened: it may have been redirected here', () => {
    const access = checkAccess({ ...local(led), changes: true }, undefined);
    assert.match(access.trusted ? '' : access.reason, /navigated to it, which any site can cause/);
  });

  it('trusts a look', () => {
    assert.equal(isTrusted(local(led)), true);
  });

  it('trusts a change from our own page, and by a program', () => {
    for (const headers of [
      { 'sec-fetch-site': 'same-origin', 'sec-fetch-mode': 'navigate' },
      { 'sec-fetch-site': 'same-origin', 'sec-fetch-mode': 'cors' },
      { 'sec-fetch-mode': 'cors' },
      {},
    ]) {
      assert.equal(isTrusted({ ...local(headers), changes: true }), true);
    }
  });

  it('trusts the token all the same', () => {
    const request = { ...local({ ...led, authorization: `Bearer ${TOKEN}` }), changes: true };
    assert.equal(isTrusted(request, TOKEN), true);
  });
});

describe('checkAccess by Origin', () => {
  const origins: readonly [string, string, boolean][] = [
    ['127.0.0.1:8090', 'http://127.0.0.1:8090', true],
    ['[::1]:8090', 'http://[::1]:8090', true],
    ['localhost:8090', 'http://localhost:8090', true],
    ['127.0.0.1:8090', 'http://127.0.0.1', false],
    ['127.0.0.1:8090', 'http://127.0.0.1:3000', false],
    ['127.0.0.1:8090', 'https://127.0.0.1:8090', false],
    ['127.0.0.1:8090', 'http://localhost:8090', false],
    ['127.0.0.1:8090', 'http://127.0.0.1:8090.evil.com', false],
    ['127.0.0.1:8090', 'http://evil.com', false],
    ['127.0.0.1:8090', 'null', false],
    ['127.0.0.1:8090', '', false],
    ['evil.com', 'http://evil.com', false],
  ];
  for (const [host, origin, trusted] of origins) {
    it(`${trusted ? 'trusts' : 'refuses'} ${JSON.stringify(origin)} on ${host}`, () => {
      assert.equal(isTrusted(local({ host, origin })), trusted);
    });
  }

  it('refuses one good sign beside a bad one', () => {
    const origin = 'http://127.0.0.1:8090';
    assert.equal(isTrusted(local({ origin, 'sec-fetch-site': 'cross-site' })), false);
    assert.equal(
      isTrusted(local({ origin: 'http://evil.com', 'sec-fetch-site': 'same-origin' })),
      false,
    );
  });
});

describe('checkAccess by token', () => {
  const foreign = (authorization: string | undefined): AccessRequest => ({
    remoteAddress: '203.0.113.9',
    headers: {
      host: 'shop.example.com',
      'x-forwarded-for': '10.0.0.1',
      via: '1.1 x',
      origin: 'https://evil.com',
      'sec-fetch-site': 'cross-site',
      ...(authorization === undefined ? {} : { authorization }),
    },
  });

  it('says of a wrong one that it is wrong, and not what it was', () => {
    const headers = { host: '127.0.0.1', authorization: 'Bearer guessed' };
    const access = checkAccess({ remoteAddress: '10.0.0.9', headers }, 'right');
    assert.equal(
      !access.trusted && access.reason,
      'it comes from another host, and its Authorization is not the shutdown token',
    );
  });

  it('trusts the right one from another host, through proxies and from a browser', () => {
    assert.deepEqual(checkAccess(foreign(`Bearer ${TOKEN}`), TOKEN), { trusted: true });
  });

  it('takes the scheme in any case, with any number of spaces', () => {
    for (const scheme of ['bearer ', 'BEARER ', 'Bearer   ']) {
      assert.equal(isTrusted(foreign(`${scheme}${TOKEN}`), TOKEN), true);
    }
  });

  const wrong: readonly (string | undefined)[] = [
    undefined,
    '',
    'Bearer',
    'Bearer ',
    `Bearer${TOKEN}`,
    TOKEN,
    `Basic ${TOKEN}`,
    `Basic ${Buffer.from(TOKEN).toString('base64')}`,
    `Token ${TOKEN}`,
    `NotBearer ${TOKEN}`,
    `X Bearer ${TOKEN}`,
    `Bearer ${TOKEN}x`,
    `Bearer x${TOKEN}`,
    `Bearer ${TOKEN.slice(0, -1)}`,
    `Bearer ${TOKEN.toUpperCase()}`,
    `Bearer ${TOKEN}, Bearer ${TOKEN}`,
    'Bearer undefined',
    'Bearer null',
    'Bearer ***',
  ];
  for (const authorization of wrong) {
    it(`refuses ${JSON.stringify(authorization)}`, () => {
      assert.equal(isTrusted(foreign(authorization), TOKEN), false);
    });
  }

  it('refuses a very long one without failing', () => {
    assert.equal(isTrusted(foreign(`Bearer ${'x'.repeat(1_000_000)}`), TOKEN), false);
    assert.equal(isTrusted(foreign(`Bearer ${' '.repeat(100_000)}`), TOKEN), false);
  });

  it('trusts no one by token where none is set', () => {
    for (const authorization of ['Bearer ', 'Bearer undefined', 'Bearer x', `Bearer ${TOKEN}`]) {
      assert.equal(isTrusted(foreign(authorization), undefined), false);
    }
  });

  it('still trusts this host without the token, or with a wrong one', () => {
    assert.equal(isTrusted(local(), TOKEN), true);
    assert.equal(isTrusted(local({ authorization: 'Bearer wrong' }), TOKEN), true);
  });

  it('quotes what it refuses short, and without control characters', () => {
    const rude = `\u001b[2J\u009b2J\n${'x'.repeat(10_000)}`;
    for (const headers of [{ host: rude }, { origin: rude }, { 'sec-fetch-site': rude }]) {
      const reason = reasonOf(local(headers));
      assert.ok(reason.length < 300, `${reason.length} characters`);
      assert.match(reason, /^[ -~]+$/);
    }
  });

  it('never tells the token in a reason', () => {
    const access = checkAccess(foreign('Bearer wrong'), TOKEN);
    assert.equal(access.trusted, false);
    assert.doesNotMatch(JSON.stringify(access), /horse|wrong/);
  });
});
