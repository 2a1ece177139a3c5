import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeFolder } from './folder.js';
import { type TestPm2, withPm2 } from './pm2.js';

/**
 * Runs a test with a pm2 of its own, whose drains stay in their delay until the test has seen what there is to see,
 * however long that takes: `endDelay` lets them go on.
 */
export async function withHeldDelay(
  use: (pm2: TestPm2, endDelay: () => void) => Promise<void>,
): Promise<void> {
  const folder = makeFolder();
  const file = join(folder.path, 'held');
  writeFileSync(file, '');
  const run = `while [ -e '${file}' ]; do sleep 0.1; done`;
  const hooks = { 'before:shutdown:delay': { run, required: true, timeout: '60s' } };
  const settings = {
    'check-delay': '2s',
    'drain-timeout': '2m',
    plugins: [['pm2-envoy/command', { hooks }]],
  };
  try {
    await withPm2(settings, (pm2) => use(pm2, () => rmSync(file)));
  } finally {
    folder.remove();
  }
}
