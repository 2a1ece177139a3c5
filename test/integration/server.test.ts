import assert from 'node:assert/strict';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { Socket } from 'node:net';
import { describe, it } from 'node:test';
import { loadConfig } from '../../src/config/load.js';
import type { HostDrain } from '../../src/drain/host-drain.js';
import type { DrainResult } from '../../src/drain/state.js';
import { isPm2EnvoyError } from '../../src/errors.js';
import { createApp } from '../../src/manager/http/app.js';
import { createLimits, type Limits } from '../../src/manager/http/limits.js';
import { serve } from '../../src/manager/http/serve.js';
import { createManagerClient } from '../../src/status/manager-client.js';
import { ask } from '../support/ask.js';
import { type Dialled, dial } from '../support/dial.js';
import { eventually, letPass } from '../support/wait.js';
import { createFakeLog, type FakeLog, makeResult } from '../unit/fakes.js';

/** The manager's server on a real socket; only the drain behind it is made up. */
interface Fixture {
  port: number;
  log: FakeLog;
  /** How many callers of `/shutdown` have reached the drain. */
  callers(): number;
  endDrain(): void;
  dial(text?: string | Uint8Array): Promise<Dialled>;
  /** The server's side of the next connection. */
  nextSocket(): Promise<Socket>;
}

const SHUTDOWN = 'POST /shutdown HTTP/1.1\r\nHost: localhost\r\n\r\n';

/** Runs a test with a server of its own. */
async function withServer(
  changed: Partial<Limits>,
  use: (fixture: Fixture) => Promise<void>,
): Promise<void> {
  const limits = { ...createLimits(), ...changed };
  const log = createFakeLog();
  const dialled: Dialled[] = [];
  let callers = 0;
  let endDrain: (result: DrainResult) => void = () => undefined;
  const ended = new Promise<DrainResult>((resolve) => {
    endDrain = resolve;
  });
  const drain = (): Promise<DrainResult> => {
    callers += 1;
    return ended;
  };
  const listener = createApp({
    config: { shutdownToken: undefined, shutdownTokenFile: undefined },
    hostDrain: { drain } as HostDrain,
    health: { unhealthy: () => undefined, unready: async () => undefined },
    readStatus: () => Promise.reject(new Error('not asked for')),
    scrape: () => Promise.reject(new Error('not asked for')),
    events: { handler: (_request, response) => void response.end() },
    page: { document: (_request, response) => void response.end(), file: (_1, _2, next) => next() },
    log: log.log,
    limits,
  });
  const server = await serve({
    listener,
    address: '127.0.0.1',
    port: 0,
    isHeldByManager: () => false,
    log: log.log,
    limits,
  });
  try {
    await use({
      port: server.port,
      log,
      callers: () => callers,
      endDrain: () => endDrain(makeResult()),
      dial: async (text) => {
        const connection = await dial(server.port, text);
        dialled.push(connection);
        return connection;
      },
      nextSocket: () =>
        new Promise((resolve) => {
          const take = (message: unknown): void => {
            unsubscribe('net.server.socket', take);
            resolve((message as { socket: Socket }).socket);
          };
          subscribe('net.server.socket', take);
        }),
    });
  } finally {
    endDrain(makeResult());
    for (const { socket } of dialled) socket.destroy();
    await server.close();
  }
}

function repeat<T>(count: number, make: () => Promise<T>): Promise<T[]> {
  return Promise.all(Array.from({ length: count }, make));
}

describe('the answers of the manager', () => {
  it('carry the headers that keep browsers from misusing them', () =>
    withServer({}, async ({ port }) => {
      for (const path of ['/healthz', '/readyz', '/nowhere']) {
        const { headers } = await ask({ port, path });
        assert.equal(headers['x-content-type-options'], 'nosniff');
        assert.equal(headers['x-frame-options'], 'DENY');
        assert.equal(headers['cross-origin-resource-policy'], 'same-origin');
        assert.equal(headers['referrer-policy'], 'no-referrer');
        assert.match(headers['content-security-policy'] ?? '', /default-src 'none'/);
        assert.equal(headers['cache-control'], 'no-store');
        assert.equal(headers['x-powered-by'], undefined);
        assert.equal(headers['strict-transport-security'], undefined, 'this is no HTTPS');
      }
    }));
});

describe('time limits', () => {
  const short = { headersMs: 200, requestMs: 400, idleMs: 300 };

  it('end a request whose headers come byte by byte (slow loris), with 408', () =>
    withServer(short, async (server) => {
      const slow = await server.dial('GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ');
      const timer = setInterval(() => slow.send('x'), 20);
      await slow.closed();
      clearInterval(timer);
      assert.match(slow.received(), /^HTTP\/1\.1 408 .*"code":"bad-request"/s);
    }));

  it('end a connection that says nothing', () =>
    withServer(short, async (server) => (await server.dial()).closed()));

  it('end a request whose body comes byte by byte, with 408; the drain continues', () =>
    withServer({ ...short, headersMs: 2_000, requestMs: 2_000 }, async (server) => {
      const slow = await server.dial(
        'POST /shutdown HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000\r\n\r\n',
      );
      const timer = setInterval(() => slow.send('x'), 20);
      await slow.closed();
      clearInterval(timer);
      assert.match(slow.received(), /^HTTP\/1\.1 408 /);
      assert.equal(server.callers(), 1);
      server.endDrain();
      assert.equal((await ask({ port: server.port, path: '/shutdown' })).status, 200);
    }));

  it('leave callers of /shutdown alone for as long as the drain takes', () =>
    withServer({ ...short, headersMs: 1_000, requestMs: 1_000 }, async (server) => {
      const callers = [
        ask({ port: server.port, path: '/shutdown' }),
        ask({ port: server.port, path: '/shutdown', method: 'POST' }),
        ask({ port: server.port, path: '/shutdown', method: 'POST', body: 'x'.repeat(50_000) }),
      ];
      await eventually('all to wait', () => server.callers() === 3);
      await letPass(2_500);
      server.endDrain();
      for (const { status } of await Promise.all(callers)) assert.equal(status, 200);
    }));

  it('end a connection that does not read its answers', () =>
    withServer(short, async (server) => {
      // Whether the other side has closed shows only to who reads, so we ask that side.
      const accepted = server.nextSocket();
      const deaf = await server.dial();
      deaf.socket.pause();
      deaf.send('GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n'.repeat(2_000));
      const socket = await accepted;
      await eventually('the server to close it', () => socket.destroyed);
    }));
});

describe('what can’t be read', { concurrency: true }, () => {
  const cases: readonly [string, string | Uint8Array, number][] = [
    ['noise', Uint8Array.from([0, 1, 2, 255, 10, 10]), 400],
    ['a TLS handshake', Uint8Array.from([22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]), 400],
    ['HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 400],
    ['an unknown version', 'GET /shutdown HTTP/9.9\r\n\r\n', 400],
    ['an unknown method', 'DRAIN /shutdown HTTP/1.1\r\nHost: localhost\r\n\r\n', 400],
    ['a header without a colon', 'GET /shutdown HTTP/1.1\r\nHost localhost\r\n\r\n', 400],
    ['a NUL in a header', 'GET /shutdown HTTP/1.1\r\nHost: local\0host\r\n\r\n', 400],
    ['a folded header', 'GET /shutdown HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\r\n', 400],
    [
      'two lengths',
      `POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nContent-Length: 44\r\n\r\n${SHUTDOWN}`,
      400,
    ],
    [
      'a length and chunks',
      `POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${SHUTDOWN}`,
      400,
    ],
    [
      'a negative length',
      'POST /shutdown HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n',
      400,
    ],
    ['a huge header', `GET /healthz HTTP/1.1\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`, 431],
    [
      'many headers, with a proxy’s at the end',
      `GET /shutdown HTTP/1.1\r\nHost: localhost\r\n${'a:b\r\n'.repeat(2_500)}Via: x\r\n\r\n`,
      431,
    ],
    ['a huge path', `GET /${'x'.repeat(20_000)} HTTP/1.1\r\nHost: localhost\r\n\r\n`, 431],
    [
      'a huge body',
      'POST /shutdown HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n',
      413,
    ],
  ];
  for (const [name, text, status] of cases) {
    it(`is answered with ${status} in our form, closed, and drains nothing: ${name}`, () =>
      withServer({ headersMs: 1_000 }, async (server) => {
        const connection = await server.dial(text);
        await eventually('an answer', () => connection.received().includes('\r\n\r\n'));
        assert.match(
          connection.received(),
          new RegExp(`^HTTP/1\\.1 ${status} [\\s\\S]*"error":\\{"code":"bad-request"`),
        );
        assert.equal(connection.received().split('HTTP/1.1 ').length, 2, 'one answer');
        await connection.closed();
        assert.equal(server.callers(), 0);
        assert.equal((await ask({ port: server.port, path: '/healthz' })).status, 200);
        assert.deepEqual(server.log.of('error'), []);
      }));
  }

  it('does not let a second request through behind a body of unknown encoding', () =>
    withServer({}, async (server) => {
      const connection = await server.dial(
        `POST /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\n\r\n${SHUTDOWN}`,
      );
      await connection.closed();
      assert.match(connection.received(), /^HTTP\/1\.1 405 [\s\S]*HTTP\/1\.1 400 /);
      assert.equal(server.callers(), 0);
    }));

  it('is a body without end, too: 413, or the end of the connection once it waits', () =>
    withServer({}, async (server) => {
      for (const path of ['/healthz', '/shutdown']) {
        const endless = await server.dial(
          `POST ${path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n`,
        );
        const chunk = `4000\r\n${'x'.repeat(0x4000)}\r\n`;
        const timer = setInterval(() => endless.send(chunk), 5);
        await endless.closed();
        clearInterval(timer);
        assert.match(endless.received(), /^HTTP\/1\.1 4(05|13) /);
      }
      server.endDrain();
      assert.deepEqual(server.log.of('error'), []);
    }));
});

describe('other requests than the endpoints take', () => {
  const cases: readonly [string, string, number][] = [
    ['HEAD', '/shutdown', 405],
    ['OPTIONS', '/shutdown', 405],
    ['TRACE', '/shutdown', 405],
    ['PUT', '/shutdown', 405],
    ['OPTIONS', '*', 404],
    ['GET', '/shutdown%00', 404],
    ['GET', '//shutdown', 404],
    ['GET', '/healthz/../shutdown', 404],
    ['GET', '/%73hutdown%2f', 404],
    ['GET', '/%E0%A4%A', 404],
    ['GET', 'http://localhost/nowhere', 404],
  ];
  for (const [method, path, status] of cases) {
    it(`get ${status}, and drain nothing: ${method} ${path}`, () =>
      withServer({}, async (server) => {
        const text = `${method} ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`;
        const connection = await server.dial(text);
        await connection.closed();
        assert.match(connection.received(), new RegExp(`^HTTP/1\\.1 ${status} `));
        assert.equal(server.callers(), 0);
      }));
  }

  it('without a Host is refused by the trust rule, and may ask for health', () =>
    withServer({}, async (server) => {
      for (const [line, status] of [
        ['GET /shutdown HTTP/1.0', 403],
        ['GET /shutdown', 403],
        ['GET /healthz HTTP/1.0', 200],
      ] as const) {
        const connection = await server.dial(`${line}\r\n\r\n`);
        await connection.closed();
        assert.match(connection.received(), new RegExp(`^HTTP/1\\.1 ${status} `));
      }
    }));
});

describe('the bound on callers that wait', () => {
  it('refuses those above it with 503 and Retry-After; the others get their answer', () =>
    withServer({ waiters: 20 }, async (server) => {
      const { port } = server;
      const waiting = Array.from({ length: 20 }, () => ask({ port, path: '/shutdown' }));
      await eventually('20 to wait', () => server.callers() === 20);
      const refused = await ask({ port, path: '/shutdown' });
      assert.equal(refused.status, 503);
      assert.equal(refused.headers['retry-after'], '5');
      assert.equal(JSON.parse(refused.body).error.code, 'too-many-callers');
      assert.equal((await ask({ port, path: '/healthz' })).status, 200);
      server.endDrain();
      for (const { status } of await Promise.all(waiting)) assert.equal(status, 200);
      assert.equal((await ask({ port, path: '/shutdown' })).status, 200);
    }));

  it('counts a caller no longer that hung up, also one of several on a connection', () =>
    withServer({ waiters: 20 }, async (server) => {
      const gone = await server.dial(SHUTDOWN.repeat(20));
      await eventually('20 to wait', () => server.callers() === 20);
      assert.equal((await ask({ port: server.port, path: '/shutdown' })).status, 503);
      gone.socket.destroy();
      await eventually('a place', async () => {
        const before = server.callers();
        const connection = await server.dial(SHUTDOWN);
        await eventually(
          'it to wait, or an answer',
          () => server.callers() > before || connection.received() !== '',
        );
        return server.callers() > before;
      });
      const left = await repeat(19, () => server.dial(SHUTDOWN));
      await eventually('20 more to wait', () => server.callers() === 40);
      for (const connection of left) assert.equal(connection.received(), '');
    }));

  it('sends the command line to join the drain in another way', () =>
    withServer({ waiters: 0 }, async ({ port }) => {
      const { config } = loadConfig({ env: {}, flags: { 'serve-port': String(port) } });
      const client = createManagerClient(config, '/nowhere');
      await assert.rejects(client.shutdown(), (error: unknown) => {
        assert.ok(isPm2EnvoyError(error, 'manager-unreachable'), String(error));
        assert.match(error.message, /has too many callers \(503\)/);
        return true;
      });
    }));

  it('is far above a thousand', () => {
    assert.ok(createLimits(1_048_576).waiters >= 4_000);
    assert.ok(createLimits(4_096).waiters >= 3_000);
  });

  it('leaves room for sockets that are refused, however few files may be open', () => {
    for (const files of [64, 1_024, 4_096, 1_048_576, Number.POSITIVE_INFINITY]) {
      const { waiters, sockets } = createLimits(files);
      assert.ok(waiters >= Math.min(80, files / 8) && waiters < sockets && sockets <= 5_000);
    }
  });
});

describe('the bound on open sockets', () => {
  it('closes the longest silent for a new one, and never one that waits', () =>
    withServer({ sockets: 50, waiters: 40 }, async (server) => {
      const waiting = await repeat(30, () => server.dial(SHUTDOWN));
      await eventually('30 to wait', () => server.callers() === 30);
      const silent = await repeat(200, () => server.dial());
      await eventually(
        'the oldest to be closed',
        () => silent.filter((connection) => connection.isClosed()).length === 180,
      );
      assert.ok(silent.slice(-10).every((connection) => !connection.isClosed()));
      assert.equal((await ask({ port: server.port, path: '/healthz' })).status, 200);
      assert.equal(server.log.of('warn').length, 1, 'it is said once');
      server.endDrain();
      for (const connection of waiting) {
        await eventually('its answer', () => connection.received().includes('"drained"'));
      }
    }));
});
