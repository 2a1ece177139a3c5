import { describe, it } from 'node:test';
import { drainBySigterm, settingsFor } from '../support/fault-cell.js';
import { PHASES, readMatrix } from '../support/faults-page.js';
import { withHost } from '../support/host.js';

const MATRIX = readMatrix();

describe('a drain begun by SIGTERM to the manager', { concurrency: 8 }, () => {
  for (const phase of PHASES) {
    for (const [fault, row] of MATRIX) {
      it(`${fault}, ${phase}: ${row[phase].outcome}`, () =>
        withHost(settingsFor([row[phase]]), (host) =>
          drainBySigterm(host, { fault, phase, expected: row[phase] }),
        ));
    }
  }
});
