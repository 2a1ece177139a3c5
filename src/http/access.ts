import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { isIP } from 'node:net';

/** What of a request decides whether it is trusted. */
export interface AccessRequest {
  /** Address of the TCP peer; undefined when it has hung up. */
  remoteAddress: string | undefined;
  headers: IncomingHttpHeaders;
}

/** Whether a request may use the endpoints that change or tell something; if not, why. */
export type Access = { trusted: true } | { trusted: false; reason: string };

/**
 * The trust rule (contract 4): from this host itself, neither through a proxy nor by a browser on
 * somebody else's page; or with the shutdown token.
 */
export function checkAccess(request: AccessRequest, token: string | undefined): Access {
  const { remoteAddress, headers } = request;
  if (token !== undefined && hasToken(headers.authorization, token)) return { trusted: true };
  const reason =
    (isLoopback(remoteAddress) ? undefined : 'it comes from another host') ??
    proxySign(headers) ??
    browserSign(headers);
  return reason === undefined ? { trusted: true } : { trusted: false, reason };
}

/** 127.0.0.0/8 and ::1, also as IPv4 mapped into IPv6. */
export function isLoopback(address: string | undefined): boolean {
  if (address === undefined) return false;
  const plain = address.toLowerCase().replace(/^::ffff:/, '');
  return plain === '::1' || (isIP(plain) === 4 && plain.startsWith('127.'));
}

/** Digests, so that the comparison takes as long for a token of any length. */
function hasToken(authorization: string | undefined, token: string): boolean {
  const sent = /^Bearer +(.+)$/i.exec(authorization ?? '')?.[1];
  if (sent === undefined) return false;
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(sent), digest(token));
}

/** A request through a proxy on this host (our own Envoy, say) also comes from loopback. */
function proxySign(headers: IncomingHttpHeaders): string | undefined {
  const name = Object.keys(headers).find(
    (header) =>
      header === 'forwarded' ||
      header === 'via' ||
      header.startsWith('x-forwarded-') ||
      header.startsWith('x-envoy-'),
  );
  return name && `it came through a proxy (${name})`;
}

function browserSign(headers: IncomingHttpHeaders): string | undefined {
  const { host = '', origin } = headers;
  if (!isLocalName(host))
    return `its Host ${JSON.stringify(host)} is neither an IP address nor localhost`;
  const site = headers['sec-fetch-site'];
  if (site !== undefined && site !== 'same-origin' && site !== 'none') {
    return `a browser sent it from another site (Sec-Fetch-Site: ${String(site)})`;
  }
  if (origin !== undefined && origin !== `http://${host}`) {
    return `a browser sent it from another site (Origin: ${origin})`;
  }
  return undefined;
}

/** `127.0.0.1:8090`, `[::1]:8090`, `localhost`: names that no foreign DNS server decides about. */
function isLocalName(host: string): boolean {
  const name = host.replace(/:\d+$/, '');
  return (
    name === 'localhost' ||
    isIP(name) === 4 ||
    (/^\[.+\]$/.test(name) && isIP(name.slice(1, -1)) === 6)
  );
}
