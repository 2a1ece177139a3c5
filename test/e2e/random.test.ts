import { describe, it } from 'node:test';
import { breakNoRule } from '../support/random-host.js';

describe('operations at random, under load', () => {
  it('break no rule: never ready while refused, nothing lost, and what is drained stays so', (t) =>
    breakNoRule(t, 8));
});
