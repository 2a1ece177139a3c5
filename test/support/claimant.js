import { workerData } from 'node:worker_threads';
import { openLedger } from '../../dist/drain/record.js';
import { silentLog } from '../../dist/log.js';

// One of the claimants of ./claims.ts: claims and decides in each round, at the same instant as the others.
// It runs what is built: a thread of Node 20 does not load TypeScript.
const { index, record, base, claims, at } = workerData;
const round = new Int32Array(claims.round);
const done = new Int32Array(claims.done);
const found = new Int32Array(claims.found);

for (let current = 1; ; current += 1) {
  while (Atomics.load(round, 0) < current) Atomics.wait(round, 0, current - 1);
  if (index < Atomics.load(round, 1)) claim(`${base}/${current}/host`, current);
  Atomics.add(done, 0, 1);
  Atomics.notify(done, 0);
}

function claim(path, current) {
  const ledger = openLedger({ base: path, log: silentLog, self: record.leader });
  const { record: joined, lead } = ledger.claim(record, record.startedAtMs);
  const decision = ledger.decide((index + current) % 2 === 0 ? 'close' : 'cancel');
  const from = index * at.length;
  Atomics.store(found, from + at.number, joined.number);
  Atomics.store(found, from + at.term, joined.term);
  Atomics.store(found, from + at.leads, lead ? 1 : 0);
  Atomics.store(found, from + at.decision, decision === 'close' ? 1 : 2);
}
