import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { endOfShutdown, readEnds } from '../../src/drain/ends.js';
import type { DrainRecord } from '../../src/drain/record.js';
import { writeJson } from '../../src/host/files.js';
import { makeRecord, makeResult, makeTempFolder } from './fakes.js';

/** A run directory with records, by their paths below it. */
function runDirWith(records: Readonly<Record<string, Partial<DrainRecord>>>): string {
  const runDir = makeTempFolder();
  for (const [path, more] of Object.entries(records)) {
    const file = join(runDir, path);
    mkdirSync(join(file, '..'), { recursive: true });
    writeJson(file, makeRecord(1_000, more));
  }
  return runDir;
}

const startedAt = '2026-01-01T00:00:01.000Z';
const result = makeResult({ startedAt });

describe('readEnds', () => {
  it('finds drains and hand-overs that have ended, in the folder of any generation', () => {
    const runDir = runDirWith({
      'generations/3/handover.json': { startedAt, result },
      'generations/4/shutdown.json': { startedAt, result },
    });
    assert.deepEqual(readEnds(runDir), [
      { id: `handover 3 ${startedAt}`, command: 'handover', result },
      endOfShutdown(startedAt, result),
    ]);
  });

  it('finds one that was cancelled beside the one that came after it', () => {
    const cancelled = makeResult({ outcome: 'cancelled' });
    const runDir = runDirWith({
      'generations/1/shutdown.json': { result: cancelled },
      'generations/1/shutdown-1.json': { startedAt, result },
    });
    const outcomes = readEnds(runDir).map((one) => one.result.outcome);
    assert.deepEqual(outcomes.sort(), ['cancelled', 'drained']);
  });

  it('finds those of an Envoy at admin-address', () => {
    const runDir = runDirWith({
      'shutdown-0123456789ab.json': { result: makeResult() },
      'shutdown-0123456789ab-1.json': { startedAt, result },
    });
    assert.equal(readEnds(runDir).length, 2);
  });

  it('leaves out what is under way, damaged, or something else', () => {
    const runDir = runDirWith({
      'generations/1/shutdown.json': {},
      'generations/1/runner.json': { result },
      'manager.json': { result },
    });
    writeFileSync(join(runDir, 'generations/1/handover.json'), '{"result":{"outcome":"drained"}}');
    writeFileSync(join(runDir, 'generations/1/shutdown.decision'), '{}');
    assert.deepEqual(readEnds(runDir), []);
  });

  it('finds nothing where there is no run directory', () => {
    assert.deepEqual(readEnds('/does/not/exist'), []);
  });
});
