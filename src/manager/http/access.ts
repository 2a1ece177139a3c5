import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { isIP } from 'node:net';
import { unreachable } from '../../errors.js';

/** What of a request decides whether it is trusted. */
export interface AccessRequest {
  /** Address of the TCP peer; undefined when it has hung up. */
  remoteAddress: string | undefined;
  headers: IncomingHttpHeaders;
  /** Whether it changes something: then it must not be where a browser was led to. */
  changes?: boolean;
}

/** What a request is refused for. */
export type RefusalKind = 'other-host' | 'proxy' | 'host-name' | 'browser';

/** Every kind, in the order in which they are looked for. */
export const REFUSAL_KINDS: readonly RefusalKind[] = [
  'other-host',
  'proxy',
  'host-name',
  'browser',
];

/** Whether a request may use the endpoints that change or tell something; if not, why. */
export type Access = { trusted: true } | { trusted: false; kind: RefusalKind; reason: string };

/**
 * The trust rule (SECURITY.md): from this host itself, neither through a proxy nor by a browser on
 * a page of another site; or with the shutdown token.
 */
export function checkAccess(request: AccessRequest, token: string | undefined): Access {
  if (token !== undefined && hasToken(request.headers.authorization, token)) {
    return { trusted: true };
  }
  for (const kind of REFUSAL_KINDS) {
    const reason = signOf(kind, request);
    if (reason === undefined) continue;
    const isWrong = request.headers.authorization !== undefined;
    const more = isWrong ? ', and its Authorization is not the shutdown token' : '';
    return { trusted: false, kind, reason: reason + more };
  }
  return { trusted: true };
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

function signOf(kind: RefusalKind, request: AccessRequest): string | undefined {
  const { remoteAddress, headers, changes } = request;
  switch (kind) {
    case 'other-host':
      return isLoopback(remoteAddress) ? undefined : 'it comes from another host';
    case 'proxy':
      return proxySign(headers);
    case 'host-name':
      return hostSign(headers);
    case 'browser':
      return browserSign(headers) ?? (changes ? navigationSign(headers) : undefined);
    default:
      return unreachable(kind);
  }
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

/** A page whose name leads to this host (DNS rebinding) sends that name. */
function hostSign({ host = '' }: IncomingHttpHeaders): string | undefined {
  if (isLocalName(host)) return undefined;
  return `its Host ${quote(host)} is neither an IP address nor localhost`;
}

function browserSign(headers: IncomingHttpHeaders): string | undefined {
  const { host, origin, 'sec-fetch-site': site } = headers;
  if (site !== undefined && site !== 'same-origin' && site !== 'none') {
    return `a browser sent it from another site (Sec-Fetch-Site: ${quote(String(site))})`;
  }
  if (origin !== undefined && origin !== `http://${host}`) {
    return `a browser sent it from another site (Origin: ${quote(origin)})`;
  }
  // Browsers say where a request is from only to loopback addresses as they know them: an <img> of any
  // page reaches http://0.0.0.0 or http://[::ffff:127.0.0.1] with neither Origin nor Sec-Fetch-Site.
  if (site === undefined && /^Mozilla\//.test(headers['user-agent'] ?? '')) {
    return 'a browser sent it without saying from which site (no Sec-Fetch-Site): browsers say so on 127.0.0.1 and localhost';
  }
  return undefined;
}

/** An address that was typed or clicked outside the browser is `none`, whatever it was redirected to. */
function navigationSign(headers: IncomingHttpHeaders): string | undefined {
  if (headers['sec-fetch-mode'] !== 'navigate' || headers['sec-fetch-site'] !== 'none') return;
  return 'a browser navigated to it, which any site can cause';
}

/** As it may stand in a log and an answer: short, and without control characters. */
function quote(text: string): string {
  return JSON.stringify(text.slice(0, 100).replace(/[^ -~]/g, '?'));
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
