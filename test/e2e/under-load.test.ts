import { describe, it } from 'node:test';
import { inARow, QUICK } from '../support/under-load.js';

describe('under load, with a TCP connection and a WebSocket held, nothing is lost', () => {
  it('by ten pm2 reloads in a row', (t) => inARow(t, 'reload', { settings: QUICK, rounds: 10 }));

  it('by five pm2 restarts in a row', (t) => inARow(t, 'restart', { settings: QUICK, rounds: 5 }));
});
