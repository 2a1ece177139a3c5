import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse, stringify } from 'yaml';
import type { TestPm2 } from '../test/support/pm2.js';

/** Gives the Envoy of a test so many clusters: its stats then take as long as in a large mesh. */
export async function manyClusters(pm2: TestPm2, count: number): Promise<void> {
  const file = join(pm2.folder, 'envoy.yaml');
  const bootstrap = parse(readFileSync(file, 'utf8'));
  const more = Array.from({ length: count }, (_, index) => ({
    name: `cluster_${index}`,
    type: 'STATIC',
    connect_timeout: '1s',
    load_assignment: { cluster_name: `cluster_${index}`, endpoints: [] },
  }));
  bootstrap.static_resources.clusters.push(...more);
  writeFileSync(file, stringify(bootstrap));
  await pm2.pm2('reload', 'envoy');
  await pm2.untilReady();
}
