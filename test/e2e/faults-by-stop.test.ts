import { describe, it } from 'node:test';
import { settingsFor, stopRunner } from '../support/fault-cell.js';
import { readMatrix } from '../support/faults-page.js';
import { withHost } from '../support/host.js';

const MATRIX = readMatrix();

describe('a drain begun by what pm2 stop sends to the runner', { concurrency: 8 }, () => {
  for (const phase of ['delay', 'wait'] as const) {
    for (const [fault, row] of MATRIX) {
      it(`${fault}, ${phase}: ${row[phase].outcome}, and no Envoy is left`, () =>
        withHost(settingsFor([row[phase]]), (host) =>
          stopRunner(host, { fault, phase, expected: row[phase] }),
        ));
    }
  }
});
