import assert from 'node:assert/strict';
import type { IncomingHttpHeaders } from 'node:http';
import { BlockList, isIP } from 'node:net';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { checkAccess } from '../../src/manager/http/access.js';
import { holds } from './check.js';

const TOKEN = 'correct horse battery staple';

const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8, 'ipv4');
loopback.addAddress('::1', 'ipv6');
loopback.addSubnet('::ffff:127.0.0.0', 104, 'ipv6');

const ipV4 = fc.oneof(
  fc.ipV4(),
  fc.constantFrom('127.0.0.1', '127.255.0.9', '128.0.0.1', '10.127.0.0', '0.0.0.0'),
);
/** As the kernel gives them. */
const peer = fc.oneof(
  ipV4,
  ipV4.map((address) => `::ffff:${address}`),
  fc.ipV6(),
  fc.constantFrom('::1', '::', '::2', '::1:1', 'fe80::1%eth0', undefined),
);

const PLAIN = [
  '127.0.0.1',
  '127.0.0.1:8090',
  '[::1]:8090',
  'localhost',
  'localhost:80',
  '10.1.2.3',
];
const host = fc.oneof(
  fc.constantFrom(...PLAIN),
  fc.constantFrom('evil.com', 'localhost.evil.com', '127.0.0.1.evil.com', '[::1', '::1', ''),
  fc.string(),
  fc.domain(),
);
const header = fc.oneof(
  host.map((value) => ['host', value]),
  host.map((value) => ['origin', `http://${value}`]),
  fc.constantFrom('none', 'same-origin', 'cross-site', 'same-site', '').map((value) => {
    return ['sec-fetch-site', value];
  }),
  fc
    .tuple(
      fc.constantFrom('via', 'forwarded', 'x-forwarded-for', 'x-envoy-internal', 'x-envoy-x'),
      fc.constantFrom('', '127.0.0.1', 'true'),
    )
    .map((pair) => [...pair]),
  fc.tuple(fc.stringMatching(/^[a-z-]{1,12}$/), fc.string()).map((pair) => [...pair]),
  fc.constantFrom('cookie', 'user-agent', 'accept', 'x-real-ip').map((name) => [name, 'a']),
);

/** All that could pass for the token, and is not. */
const wrongAuthorization = fc.oneof(
  fc.constantFrom(
    ...[
      '',
      'Bearer',
      'Bearer ',
      `Basic ${TOKEN}`,
      TOKEN,
      `Bearer${TOKEN}`,
      `Bearer: ${TOKEN}`,
      `xBearer ${TOKEN}`,
    ],
    ...[
      `Bearer ${TOKEN}x`,
      `Bearer x${TOKEN}`,
      `Bearer ${TOKEN.toUpperCase()}`,
      'Bearer undefined',
    ],
    ...[`Bearer ${TOKEN.slice(1)}`, `Bearer ${TOKEN.slice(0, -1)}`, `Bearer ${TOKEN}, Bearer x`],
  ),
  fc.string(),
  fc.string().map((text) => `Bearer ${text}`),
);
const rightAuthorization = fc
  .tuple(fc.constantFrom('Bearer', 'bearer', 'BEARER'), fc.integer({ min: 1, max: 3 }))
  .map(([scheme, spaces]) => `${scheme}${' '.repeat(spaces)}${TOKEN}`);

const headers = fc
  .array(header, { maxLength: 4 })
  .map((pairs): IncomingHttpHeaders => ({ host: '127.0.0.1:8090', ...Object.fromEntries(pairs) }));
const token = fc.constantFrom(undefined, TOKEN);

describe('checkAccess', () => {
  it('trusts no one from elsewhere without the token, whatever the headers say', () => {
    holds(
      fc.property(peer, headers, token, wrongAuthorization, (peer, headers, token, wrong) => {
        fc.pre(!isLoopbackAddress(peer));
        const access = checkAccess(
          { remoteAddress: peer, headers: { ...headers, authorization: wrong } },
          token,
        );
        assert.equal(access.trusted, false);
      }),
      1_000,
    );
  });

  it('trusts callers that send the token, through a proxy too', () => {
    holds(
      fc.property(peer, headers, rightAuthorization, (remoteAddress, headers, authorization) => {
        const request = { remoteAddress, headers: { ...headers, authorization } };
        assert.deepEqual(checkAccess(request, TOKEN), { trusted: true });
      }),
    );
  });

  it('trusts this host itself, neither through a proxy nor by someone else’s page', () => {
    const here = fc.oneof(
      fc.tuple(fc.nat(255), fc.nat(255)).map(([a, b]) => `127.${a}.0.${b}`),
      fc.constantFrom('::1', '::ffff:127.0.0.1', '::FFFF:127.9.9.9'),
    );
    holds(
      fc.property(here, headers, wrongAuthorization, (remoteAddress, headers, authorization) => {
        const access = checkAccess(
          { remoteAddress, headers: { ...headers, authorization } },
          TOKEN,
        );
        assert.equal(access.trusted, isPlain(headers), JSON.stringify(access));
        if (!access.trusted) assert.ok(access.reason !== '' && !access.reason.includes('\n'));
      }),
      1_000,
    );
  });

  it('says yes or no to any headers, and any peer', () => {
    const name = fc.constantFrom('host', 'origin', 'authorization', 'sec-fetch-site');
    // As Node decodes them.
    const text = fc
      .uint8Array({ maxLength: 20 })
      .map((bytes) => Buffer.from(bytes).toString('latin1'));
    // Node gives a header that comes twice as one text, but for this one.
    const cookies = fc.record({ 'set-cookie': fc.array(text) }, { requiredKeys: [] });
    const anyHeaders = fc
      .tuple(fc.dictionary(fc.oneof(name, fc.string()), text), cookies)
      .map(([texts, cookies]): IncomingHttpHeaders => ({ ...texts, ...cookies }));
    const anyPeer = fc.oneof(peer, text);
    holds(
      fc.property(anyPeer, anyHeaders, token, (remoteAddress, headers, token) => {
        const access = checkAccess({ remoteAddress, headers }, token);
        assert.equal(typeof access.trusted, 'boolean');
      }),
      500,
    );
  });
});

function isLoopbackAddress(address: string | undefined): boolean {
  const family = isIP(address ?? '');
  if (address === undefined || family === 0) return false;
  return loopback.check(address, family === 4 ? 'ipv4' : 'ipv6');
}

/** The rule of SECURITY.md, by the names of the headers. */
function isPlain(headers: IncomingHttpHeaders): boolean {
  const names = Object.keys(headers);
  if (names.some((name) => /^(via|forwarded|x-forwarded-.*|x-envoy-.*)$/.test(name))) return false;
  const { host = '', origin = `http://${host}` } = headers;
  const site = headers['sec-fetch-site'] ?? 'none';
  const name = host.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, (all, inner) => {
    return isIP(inner) === 6 ? '127.0.0.1' : all;
  });
  const isHostHere = name === 'localhost' || isIP(name) === 4;
  return isHostHere && origin === `http://${host}` && (site === 'none' || site === 'same-origin');
}
