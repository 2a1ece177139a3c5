import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { loadConfig } from '../../src/config/load.js';
import { isPm2EnvoyError } from '../../src/errors.js';
import { silentLog } from '../../src/log.js';
import type { PluginClass } from '../../src/plugins/api/types.js';
import { DrainPlugin } from '../../src/plugins/drain-plugin.js';
import { createPluginHost } from '../../src/plugins/host.js';
import { CommandPlugin } from '../../src/plugins/ready-made/command.js';
import { readHooks } from '../../src/plugins/ready-made/options.js';
import { fillIn, fillInAll } from '../../src/plugins/ready-made/variables.js';
import { WebhookPlugin } from '../../src/plugins/ready-made/webhook.js';

const { config } = loadConfig({ env: {}, cwd: '/nowhere' });
const EVENT = 'before:shutdown:fail-health';
const SECRET = 'tell-nobody-77';

/** Constructs the plugin as the manager and the runner do. */
function construct(create: PluginClass, options: unknown): void {
  const own = { name: 'drain', create: DrainPlugin, options: {}, builtIn: true };
  const plugin = { name: 'the-plugin', create, options: options as Record<string, unknown> };
  createPluginHost({ config, log: silentLog, plugins: [own, plugin] });
}

/** What is said of options that are refused. */
function refusal(create: PluginClass, options: unknown): string {
  try {
    construct(create, options);
  } catch (error) {
    assert.ok(isPm2EnvoyError(error, 'plugin-invalid'), String(error));
    return error.message;
  }
  return assert.fail(`${JSON.stringify(options)} was taken`);
}

const START = "plugin the-plugin can't be used: ";
const at = (hook: unknown): unknown => ({ hooks: { [EVENT]: hook } });

describe('the options of pm2-envoy/command', () => {
  const taken: readonly unknown[] = [
    at('deregister web-1'),
    at(['/usr/local/bin/deregister', 'web-1', '']),
    at({ run: 'deregister web-1' }),
    at({ run: ['deregister'], timeout: '1m30s', required: true }),
    at({ run: 'x', required: false }),
    { hooks: { 'after:resume:pass-health': { run: 'x', required: false } } },
    { hooks: { 'start:live': 'x', 'shutdown:finish': 'y', 'before:handover:close': 'z' } },
  ];
  for (const options of taken) {
    it(`takes ${JSON.stringify(options)}`, () => construct(CommandPlugin, options));
  }

  const NO_HOOKS = '"hooks" must be an object, such as {"shutdown:finish": {"run": …}}';
  const NO_RUN = 'must be a string for the shell, or a list of program and arguments';
  const refused: readonly [unknown, string][] = [
    [{}, NO_HOOKS],
    [{ hooks: {} }, NO_HOOKS],
    [{ hooks: [EVENT] }, NO_HOOKS],
    [{ hooks: null }, NO_HOOKS],
    [{ hook: {} }, '"hook" is not a known key (did you mean "hooks"?); known are hooks'],
    [['x'], '"0" is not a known key; known are hooks'],
    [
      at({ run: 'x', timeuot: '5s' }),
      `hook ${EVENT}: "timeuot" is not a known key (did you mean "timeout"?); known are run, timeout, required`,
    ],
    [
      at({ run: 'x', url: 'y' }),
      `hook ${EVENT}: "url" is not a known key; known are run, timeout, required`,
    ],
    [at({}), `hook ${EVENT}: "run" is missing: ${NO_RUN}`],
    [at(5), `hook ${EVENT}: "run" 5 ${NO_RUN}`],
    [at(null), `hook ${EVENT}: "run" null ${NO_RUN}`],
    [at({ run: ['a', 5] }), `hook ${EVENT}: "run" ["a",5] ${NO_RUN}`],
    [at({ run: {} }), `hook ${EVENT}: "run" {} ${NO_RUN}`],
    [at(''), `hook ${EVENT}: "run" "" must not be empty`],
    [at(' \n'), `hook ${EVENT}: "run" " \\n" must not be empty`],
    [at([]), `hook ${EVENT}: "run" [] must not be empty`],
    [at(['', 'x']), `hook ${EVENT}: "run" ["","x"] must not be empty`],
    [at('a\0b'), `hook ${EVENT}: "run" "a\\u0000b" must not contain a NUL`],
    [
      at({ run: 'x', timeout: '20' }),
      `hook ${EVENT}: "timeout" "20" must be a duration with a unit, such as 5s, 1m30s or 500ms (did you mean "20s"?)`,
    ],
    [
      at({ run: 'x', timeout: 20 }),
      `hook ${EVENT}: "timeout" 20 must be a duration with a unit, such as 5s, 1m30s or 500ms (did you mean "20s"?)`,
    ],
    [at({ run: 'x', timeout: '0s' }), `hook ${EVENT}: "timeout" "0s" must be at least 1ms`],
    [at({ run: 'x', timeout: '597h' }), `hook ${EVENT}: "timeout" "597h" must be at most 596h`],
    [at({ run: 'x', required: 'yes' }), `hook ${EVENT}: "required" "yes" must be true or false`],
    [
      { hooks: { 'after:resume:pass-health': { run: 'x', required: true } } },
      'hook after:resume:pass-health: "required" true is only for hooks before an event',
    ],
    [
      { hooks: { 'before:shutdown:fail-helth': 'x' } },
      'its hook before:shutdown:fail-helth names no lifecycle event (did you mean before:shutdown:fail-health?); known are shutdown:fail-health,',
    ],
    [JSON.parse('{"hooks": {"__proto__": "x"}}'), 'its hook __proto__ names no lifecycle event'],
  ];
  for (const [options, reason] of refused) {
    it(`refuses ${JSON.stringify(options)}`, () => {
      const message = refusal(CommandPlugin, options);
      assert.ok(message.startsWith(START + reason), message);
    });
  }

  it('shows a long value in part', () => {
    const message = refusal(CommandPlugin, at([5, 'x'.repeat(5_000)]));
    assert.ok(message.length < 500, message);
  });
});

describe('the options of pm2-envoy/webhook', () => {
  before(() => {
    process.env['READY_MADE_SECRET'] = SECRET;
    process.env['READY_MADE_LINES'] = `${SECRET}\nx: y`;
    process.env['READY_MADE_EMPTY'] = '';
  });
  after(() => {
    for (const name of Object.keys(process.env)) {
      if (name.startsWith('READY_MADE_')) delete process.env[name];
    }
  });

  const url = 'https://lb.example/hosts/web-1';
  const taken: readonly unknown[] = [
    at(url),
    at('http://127.0.0.1:8000'),
    at(`https://user:\${READY_MADE_SECRET}@lb.example/?token=\${READY_MADE_SECRET}`),
    at({
      url,
      method: 'DELETE',
      headers: { authorization: `Bearer \${READY_MADE_SECRET}` },
      body: { a: [1, null, `\${READY_MADE_SECRET}`] },
      timeout: '5s',
      retries: 10,
      required: true,
    }),
    at({ url, body: null, retries: 0 }),
  ];
  for (const options of taken) {
    it(`takes ${JSON.stringify(options)}`, () => construct(WebhookPlugin, options));
  }

  const NO_URL = 'must be a URL that begins with http:// or https://';
  const NOT_SET = 'names the environment variable READY_MADE_NONE, which is not set';
  const refused: readonly [unknown, string][] = [
    [{}, '"hooks" must be an object, such as {"shutdown:finish": {"url": …}}'],
    [
      at({ url, header: {} }),
      '"header" is not a known key (did you mean "headers"?); known are url, method, headers, body, retries, timeout, required',
    ],
    [at({ method: 'POST' }), `"url" is missing: ${NO_URL}`],
    [at(5), `"url" (number) ${NO_URL}`],
    [at('lb.example/hosts?token=tell-nobody-77'), `"url" "lb.example/hosts" ${NO_URL}`],
    [at('ftp://me:tell-nobody-77@lb.example/'), `"url" "ftp://lb.example/" ${NO_URL}`],
    [at('file:///etc/passwd'), `"url" "file:///etc/passwd" ${NO_URL}`],
    [at('https://'), `"url" "https://" ${NO_URL}`],
    [at('https://a b/'), `"url" "https://a b/" ${NO_URL}`],
    [at(`https://\${READY_MADE_NONE}/`), `"url" "https://\${READY_MADE_NONE}/" ${NOT_SET}`],
    [
      at(`https://lb.example/?t=\${READY_MADE_EMPTY}`),
      '"url" "https://lb.example/" names the environment variable READY_MADE_EMPTY, which is not set',
    ],
    [
      at(`https://lb.example/\${LB-TOKEN}`),
      `"url" "https://lb.example/\${LB-TOKEN}" has a "\${" without a variable’s name and "}"`,
    ],
    [
      at({ url, method: 'delete' }),
      '"method" "delete" must be one of GET, POST, PUT, PATCH, DELETE',
    ],
    [at({ url, headers: ['a'] }), '"headers" must be an object of strings'],
    [at({ url, headers: { a: 5 } }), '"headers" "a" must be a string'],
    [at({ url, headers: { a: `\${READY_MADE_NONE}` } }), `"headers" "a" ${NOT_SET}`],
    [at({ url, headers: { a: `\${READY_MADE_LINES}` } }), '"headers" "a" is not a valid header'],
    [at({ url, headers: { 'a b': SECRET } }), '"headers" "a b" is not a valid header'],
    [
      at({ url, headers: { a: `x\${${SECRET}` } }),
      `"headers" "a" has a "\${" without a variable’s name and "}"`,
    ],
    [at({ url, body: { a: [`\${READY_MADE_NONE}`] } }), `"body" ${NOT_SET}`],
    [at({ url, retries: 11 }), '"retries" 11 must be a whole number, 0 to 10'],
    [at({ url, retries: '2' }), '"retries" "2" must be a whole number, 0 to 10'],
    [at({ url, timeout: 5 }), '"timeout" 5 must be a duration'],
  ];
  for (const [options, reason] of refused) {
    it(`refuses ${JSON.stringify(options)}`, () => {
      const message = refusal(WebhookPlugin, options);
      const where = reason.includes('"hooks"') ? '' : `hook ${EVENT}: `;
      assert.ok(message.startsWith(START + where + reason), message);
      assert.ok(!message.includes(SECRET), message);
    });
  }
});

describe('readHooks', () => {
  const shape = { main: 'run', create: () => () => undefined };

  it('leaves the time limit to the host where none is set', () => {
    const { [EVENT]: spec } = readHooks({ hooks: { [EVENT]: 'x' } }, shape);
    assert.deepEqual(Object.keys(spec ?? {}).sort(), ['required', 'run']);
    assert.equal(spec?.required, false);
  });

  it('hands on time limit and required', () => {
    const hook = { run: 'x', timeout: '1m', required: true };
    const { [EVENT]: spec } = readHooks({ hooks: { [EVENT]: hook } }, shape);
    assert.deepEqual([spec?.timeoutMs, spec?.required], [60_000, true]);
  });
});

describe('fillIn', () => {
  const env = { A: 'one', B_2: `two \${A}`, EMPTY: '' };
  const filled: readonly [string, string][] = [
    ['', ''],
    ['plain $A $ { } }', 'plain $A $ { } }'],
    [`\${A}`, 'one'],
    [`<\${A}\${A}> \${B_2}`, `<oneone> two \${A}`],
  ];
  for (const [text, expected] of filled) {
    it(`makes ${JSON.stringify(expected)} of ${JSON.stringify(text)}`, () => {
      assert.equal(fillIn(text, env), expected);
    });
  }

  for (const text of [
    `\${}`,
    `\${`,
    `\${A`,
    `\${A B}`,
    `\${2}`,
    `\${A:-x}`,
    `\${NONE}`,
    `\${EMPTY}`,
  ]) {
    it(`refuses ${JSON.stringify(text)}`, () => {
      assert.throws(() => fillIn(text, env));
    });
  }
});

describe('fillInAll', () => {
  it('fills in every text, and leaves keys and all else as they are', () => {
    const json = { [`\${A}`]: [`\${A}`, 5, null, true, { b: `x\${A}` }] };
    assert.deepEqual(fillInAll(json, { A: 'one' }), {
      [`\${A}`]: ['one', 5, null, true, { b: 'xone' }],
    });
  });
});
