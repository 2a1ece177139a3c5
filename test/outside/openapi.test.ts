import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { resolve } from 'node:path';
import { describe, it } from 'node:test';
import { promisify } from 'node:util';
import { startTestEnvoy } from '../support/envoy.js';
import { withManager } from '../support/manager.js';
import { freePorts } from '../support/ports.js';

const run = promisify(execFile);
const DOCUMENT = resolve(import.meta.dirname, '../../docs/openapi.yaml');
const LIMIT_MS = 120_000;

/** Runs schemathesis (PyPI), which leaves files in `folder`; rejects with what it found. */
async function schemathesis(folder: string, args: readonly string[]): Promise<string> {
  const binary = process.env['SCHEMATHESIS_BIN'] ?? 'schemathesis';
  try {
    const { stdout } = await run(binary, args, { cwd: folder, timeout: LIMIT_MS });
    return stdout;
  } catch (error) {
    const { code, stdout } = error as { code?: unknown; stdout?: string };
    if (code !== 'ENOENT') throw new Error(stdout ?? String(error));
    throw new Error(
      `${binary} is not there: pip install schemathesis in a virtual environment, and set SCHEMATHESIS_BIN`,
    );
  }
}

describe('the HTTP API', () => {
  it('keeps to docs/openapi.yaml, whatever schemathesis sends', async () => {
    const envoy = await startTestEnvoy();
    try {
      const [port = 0] = await freePorts(1);
      const settings = { 'admin-address': envoy.adminUrl };
      await withManager({ folder: envoy.folder, port, settings }, async ({ log }) => {
        const found = await schemathesis(envoy.folder, [
          ...['run', DOCUMENT, '--url', `http://127.0.0.1:${port}`, '--no-color'],
          // A stream never ends; a 503 of /readyz is an answer, and a 500 is not in the document.
          ...['--exclude-path', '/events', '--exclude-checks', 'not_a_server_error'],
          ...['--seed', '1', '--max-examples', '100', '--request-timeout', '10'],
        ]);
        assert.match(found, /\d+ generated, \d+ passed/, found);
        assert.doesNotMatch(log(), /a request failed/);
      });
    } finally {
      await envoy.stop();
    }
  });
});
