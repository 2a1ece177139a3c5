import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { createAdminClient } from '../../src/admin/client.js';
import { holdTcp } from '../support/clients.js';
import { type TestHost, withHost } from '../support/host.js';
import { letPass, patiently } from '../support/wait.js';

/** A container's own PID namespace, which ends with the process that made it. */
const CONTAINER = [
  'unshare',
  ...(process.getuid?.() === 0 ? [] : ['--user', '--map-root-user']),
  '--mount',
  '--pid',
  '--fork',
  '--kill-child',
  '--mount-proc',
];

describe('two containers that share the volume of the run directory', () => {
  it('the second one is refused and takes nothing from the first, until that has ended', () =>
    withHost({}, async (host) => {
      const first = await host.startApp('runner', { wrapper: CONTAINER });
      const one = await generationOf(host, 1);
      const ports = await host.portsOf(one.adminSocket);
      const held = await holdTcp(ports.tcp);
      for (const start of ['first', 'second']) {
        const other = await host.startApp('runner', { wrapper: CONTAINER });
        assert.equal(await other.exited, 78, `at its ${start} start: ${other.output()}`);
        assert.match(other.output(), /in use by another container \(generation 1 answers/);
      }
      const admin = createAdminClient({ kind: 'unix', path: one.adminSocket });
      assert.equal(await admin.state().finally(admin.close), 'LIVE');
      // A manager in another container does not say that this Envoy is gone.
      await host.startManager({ wrapper: CONTAINER });
      const { status, body } = await host.http('POST', '/shutdown');
      assert.equal(status, 502, body);
      process.kill(childOf(first.pid), 'SIGTERM');
      const early = await Promise.race([first.exited, letPass(2_000).then(() => 'waits')]);
      assert.equal(early, 'waits', first.output());
      held.close();
      assert.equal(await first.exited, 0, first.output());
      const next = await host.startApp('runner', { wrapper: CONTAINER });
      await generationOf(host, 2);
      assert.ok(next.isRunning(), next.output());
    }));
});

/** As it is written down: of its process this namespace sees another pid. */
async function generationOf(
  { runDir }: TestHost,
  number: number,
): Promise<{ adminSocket: string }> {
  const file = join(runDir, 'generations', String(number), 'generation.json');
  return patiently(`generation ${number}`, () => {
    const generation = existsSync(file) && JSON.parse(readFileSync(file, 'utf8'));
    return generation.ready && generation;
  });
}

function childOf(pid: number): number {
  return Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim());
}
