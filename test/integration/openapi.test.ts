import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { Ajv2020 } from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import { parse } from 'yaml';
import { holdTcp } from '../support/clients.js';
import { startTestEnvoy, type TestEnvoy } from '../support/envoy.js';
import { startManager, type TestManager } from '../support/manager.js';
import { freePorts } from '../support/ports.js';
import { eventually } from '../support/wait.js';

interface ResponseObject {
  $ref?: string;
  content?: Record<string, { schema?: object }>;
}
interface Operation {
  responses: Record<string, ResponseObject>;
}
interface Document {
  info: { version: string };
  components: { responses: Record<string, ResponseObject> };
  paths: Record<string, Record<string, Operation>>;
}

const ROOT = resolve(import.meta.dirname, '../..');
const read = (path: string): string => readFileSync(resolve(ROOT, path), 'utf8');
const openapi: Document = parse(read('docs/openapi.yaml'));

const ajv = new Ajv2020({ strict: false, allErrors: true });
addFormats.default(ajv);

/** Fails unless an answer is one that the document allows. */
function assertDocumented(
  [method, path]: [string, string],
  answer: { status: number; headers: Record<string, unknown>; body: string },
): void {
  const responses = openapi.paths[path]?.[method.toLowerCase()]?.responses ?? {};
  const status = [String(answer.status), `${String(answer.status)[0]}XX`].find(
    (key) => key in responses,
  );
  assert.ok(status, `${method} ${path}: ${answer.status} is not in docs/openapi.yaml`);
  const response = resolved(responses[status]);
  const type = String(answer.headers['content-type']).split(';')[0] ?? '';
  const schema = response.content?.[type]?.schema;
  assert.ok(schema, `${method} ${path} ${status}: ${type} is not in docs/openapi.yaml`);
  const validate = ajv.compile({ ...schema, components: openapi.components });
  const body = type === 'application/json' ? JSON.parse(answer.body) : answer.body;
  assert.ok(
    validate(body),
    `${method} ${path} ${status}: ${ajv.errorsText(validate.errors)}\n${answer.body}`,
  );
}

/** A response, where it is shared by several. */
function resolved(response: ResponseObject = {}): ResponseObject {
  const name = response.$ref?.split('/').at(-1);
  return name === undefined ? response : (openapi.components.responses[name] ?? {});
}

describe('docs/openapi.yaml', () => {
  let envoy: TestEnvoy;
  let manager: TestManager;

  before(async () => {
    envoy = await startTestEnvoy();
    const [port = 0] = await freePorts(1);
    manager = await startManager({
      folder: envoy.folder,
      port,
      settings: { 'admin-address': envoy.adminUrl, 'check-delay': '300ms' },
    });
  });
  after(async () => {
    await manager?.stop();
    await envoy?.stop();
  });

  const isDocumented = async (
    method: string,
    path: string,
    headers: Record<string, string> = {},
  ): Promise<number> => {
    const answer = await manager.ask(path, { method, headers });
    assertDocumented([method, path], answer);
    return answer.status;
  };

  it('is of this version of the package', () => {
    assert.equal(openapi.info.version, JSON.parse(read('package.json')).version);
  });

  it('names every path that the 404 names, and no other', async () => {
    const { status, body } = await manager.ask('/nowhere');
    assert.equal(status, 404);
    const [, list = ''] = JSON.parse(body).error.message.split('there are ');
    assert.deepEqual(list.split(/, | and /).sort(), Object.keys(openapi.paths).sort());
  });

  it('describes the answers to all callers, refused or not', async () => {
    for (const path of ['/healthz', '/readyz', '/status', '/metrics']) {
      assert.equal(await isDocumented('GET', path), 200);
    }
    assert.equal(await isDocumented('GET', '/status', { via: '1.1 proxy' }), 403);
    assert.equal(await isDocumented('GET', '/events', { via: '1.1 proxy' }), 403);
    assert.equal(await isDocumented('DELETE', '/shutdown', { via: '1.1 proxy' }), 403);
    assert.equal(await isDocumented('DELETE', '/shutdown'), 200);
  });

  it('describes the answers in a drain and after it', async () => {
    const held = await holdTcp(envoy.ports.tcp);
    const waits = isDocumented('POST', '/shutdown');
    await eventually('the wait', async () => {
      const { body } = await manager.ask('/status');
      return JSON.parse(body).phase === 'wait';
    });
    assert.equal(await isDocumented('GET', '/status'), 200);
    assert.equal(await isDocumented('GET', '/readyz'), 503);
    assert.equal(await isDocumented('DELETE', '/shutdown'), 409);
    held.close();
    assert.equal(await waits, 200);
    assert.equal(await isDocumented('GET', '/shutdown'), 200);
    assert.equal(await isDocumented('GET', '/status'), 200);
  });

  it('describes the answers once Envoy is dead', async () => {
    envoy.kill('SIGKILL');
    await eventually('the manager to notice', async () => {
      const { body } = await manager.ask('/status');
      return JSON.parse(body).envoy?.state === null;
    });
    assert.equal(await isDocumented('GET', '/status'), 200);
    assert.equal(await isDocumented('GET', '/readyz'), 503);
  });
});
