import { describe, it } from 'node:test';
import { inARow, QUICK, withBusyCores } from '../support/under-load.js';

describe('under load, with every core busy, nothing is lost', () => {
  it('by ten pm2 reloads in a row', (t) =>
    withBusyCores(() => inARow(t, 'reload', { settings: QUICK, rounds: 10 })));
});
