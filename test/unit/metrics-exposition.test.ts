import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { MetricDefinition } from '../../src/manager/metrics/catalogue.js';
import { METRICS } from '../../src/manager/metrics/catalogue.js';
import { createExposition } from '../../src/manager/metrics/exposition.js';

const definitions: readonly MetricDefinition[] = [
  { name: 'a_gauge', type: 'gauge', help: 'A gauge.' },
  { name: 'a_total', type: 'counter', help: 'A counter.', labels: ['kind'] },
  { name: 'a_seconds', type: 'histogram', help: 'A histogram.', labels: ['kind'] },
];

describe('createExposition', () => {
  it('shows samples below their help and type', async () => {
    const text = await createExposition(definitions).render([
      { name: 'a_total', labels: { kind: 'x' }, value: 2 },
      { name: 'a_gauge', labels: {}, value: 1.5 },
      { name: 'a_seconds_bucket', labels: { kind: 'x', le: '1' }, value: 3 },
      { name: 'a_seconds_sum', labels: { kind: 'x' }, value: 0.5 },
    ]);
    assert.equal(
      text,
      `# HELP a_gauge A gauge.
# TYPE a_gauge gauge
a_gauge 1.5

# HELP a_total A counter.
# TYPE a_total counter
a_total{kind="x"} 2

# HELP a_seconds A histogram.
# TYPE a_seconds histogram
a_seconds_bucket{kind="x",le="1"} 3
a_seconds_sum{kind="x"} 0.5
`,
    );
  });

  it('shows nothing of what was there before', async () => {
    const exposition = createExposition(definitions);
    await exposition.render([
      { name: 'a_gauge', labels: {}, value: 1 },
      { name: 'a_total', labels: { kind: 'x' }, value: 2 },
      { name: 'a_seconds_count', labels: { kind: 'x' }, value: 2 },
    ]);
    const text = await exposition.render([{ name: 'a_total', labels: { kind: 'x' }, value: 3 }]);
    const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
    assert.deepEqual(lines, ['a_total{kind="x"} 3']);
  });

  it('quotes what a label may hold', async () => {
    const labels = { kind: 'a "b"\\\n' };
    const text = await createExposition(definitions).render([
      { name: 'a_total', labels, value: 1 },
    ]);
    assert.ok(text.includes('a_total{kind="a \\"b\\"\\\\\\n"} 1'), text);
  });

  it('refuses a sample of no metric, and a label that its metric does not have', () => {
    const { render } = createExposition(definitions);
    assert.throws(
      () => render([{ name: 'other_total', labels: {}, value: 1 }]),
      /there is no metric other_total/,
    );
    assert.throws(() => render([{ name: 'a_total', labels: { other: 'x' }, value: 1 }]), /other/);
  });

  it('is the text format of Prometheus', () => {
    const { contentType } = createExposition(definitions);
    assert.equal(contentType, 'text/plain; version=0.0.4; charset=utf-8');
  });
});

describe('METRICS', () => {
  it('are named as Prometheus advises: a counter ends in _total, nothing else does', () => {
    for (const { name, type } of METRICS) {
      assert.match(name, /^(pm2_envoy|process|nodejs)_[a-z0-9_]+$/);
      assert.equal(name.endsWith('_total'), type === 'counter', name);
      assert.doesNotMatch(name, /_(ms|milliseconds|minutes|kb|mb)(_|$)/);
    }
    assert.equal(new Set(METRICS.map(({ name }) => name)).size, METRICS.length);
  });
});
