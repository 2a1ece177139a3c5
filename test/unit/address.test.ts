import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { formatAdminAddress, parseAdminAddress } from '../../src/admin/address.js';

describe('parseAdminAddress', () => {
  it('reads a unix socket with its path untouched', () => {
    assert.deepEqual(parseAdminAddress('unix:/run/a b/ä%20:1.sock'), {
      kind: 'unix',
      path: '/run/a b/ä%20:1.sock',
    });
  });

  it('reads a TCP address without a trailing slash', () => {
    for (const text of ['http://127.0.0.1:9901', 'http://127.0.0.1:9901/']) {
      assert.deepEqual(parseAdminAddress(text), { kind: 'tcp', url: 'http://127.0.0.1:9901' });
    }
  });

  it('keeps an IPv6 literal in brackets', () => {
    assert.deepEqual(parseAdminAddress('http://[::1]:9901'), {
      kind: 'tcp',
      url: 'http://[::1]:9901',
    });
  });

  it('takes localhost as 127.0.0.1, where the admin interface nearly always is', () => {
    for (const text of ['http://localhost:9901', 'http://LOCALHOST:9901']) {
      assert.deepEqual(parseAdminAddress(text), { kind: 'tcp', url: 'http://127.0.0.1:9901' });
    }
  });

  it('leaves names that only contain localhost alone', () => {
    assert.deepEqual(parseAdminAddress('http://localhost.example:9901'), {
      kind: 'tcp',
      url: 'http://localhost.example:9901',
    });
  });
});

describe('formatAdminAddress', () => {
  it('writes an address as it is configured', () => {
    for (const text of ['unix:/run/envoy.sock', 'http://127.0.0.1:9901', 'http://[::1]:9901']) {
      assert.equal(formatAdminAddress(parseAdminAddress(text)), text);
    }
  });
});
