import assert from 'node:assert/strict';
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { it } from 'node:test';
import { makeFolder } from '../support/folder.js';

const PORTS = join(import.meta.dirname, '../support/ports.ts');
/** As a test that prepares a host: nothing listens on its ports yet. */
const PROGRAM = `import { freePorts } from ${JSON.stringify(PORTS)};
process.send(await freePorts(200));
process.on('message', () => undefined);
`;

it('freePorts gives no port to two processes, before anything listens there', async () => {
  const folder = makeFolder();
  const file = join(folder.path, 'asks.mts');
  writeFileSync(file, PROGRAM);
  const execArgv = ['--import', import.meta.resolve('tsx')];
  const children: ChildProcess[] = [1, 2, 3, 4].map(() => fork(file, { execArgv }));
  try {
    const answers = await Promise.all(children.map((child) => once(child, 'message')));
    const ports = answers.flatMap(([given]) => given as number[]);
    assert.equal(ports.length, 800);
    assert.equal(new Set(ports).size, ports.length);
  } finally {
    for (const child of children) child.kill('SIGKILL');
    folder.remove();
  }
});
