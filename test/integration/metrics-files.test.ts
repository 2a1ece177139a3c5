import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { describe, it } from 'node:test';
import { parse } from 'yaml';
import { ADMIN_PATHS } from '../../src/admin/client.js';
import { CONNECTION_KINDS } from '../../src/admin/stats.js';
import { OUTCOMES, SHUTDOWN_EVENTS } from '../../src/drain/state.js';
import { REFUSAL_KINDS } from '../../src/manager/http/access.js';
import { METRICS } from '../../src/manager/metrics/catalogue.js';
import { GENERATION_STATES } from '../../src/manager/metrics/status-samples.js';
import { metricOf } from '../support/metrics.js';
import { headings, section, slugOf, tableRows } from '../support/pages.js';

const ROOT = resolve(import.meta.dirname, '../..');
const read = (path: string): string => readFileSync(resolve(ROOT, path), 'utf8');

interface Alert {
  alert: string;
  expr: string;
  labels: { severity?: string };
  annotations: { summary?: string; description?: string; runbook?: string };
}
interface AlertTest {
  alert_rule_test: readonly { alertname: string; exp_alerts?: readonly object[] }[];
}
interface Panel {
  id: number;
  type: string;
  title: string;
  description?: string;
  datasource?: { type: string; uid: string };
  gridPos: { x: number; y: number; w: number; h: number };
  fieldConfig?: { defaults: { unit?: string } };
  targets?: readonly { expr: string; datasource: { uid: string } }[];
}

const page = read('docs/metrics.md');
const alerts: Alert[] = parse(read('deploy/prometheus/alerts.yaml')).groups[0].rules;
const dashboard = JSON.parse(read('deploy/grafana/dashboard.json'));
const panels: Panel[] = dashboard.panels.filter(({ type }: Panel) => type !== 'row');

/** Every metric of ours that a text names. */
function namesIn(text: string): string[] {
  return [...text.matchAll(/\b(?:pm2_envoy|process|nodejs)_[a-z0-9_]+/g)].map(([name]) => name);
}

/** `/metrics` gives exactly the metrics of the catalogue: test/e2e/metrics.test.ts. */
function assertGiven(text: string): void {
  const names = namesIn(text);
  assert.ok(names.length > 0, 'it names no metric');
  for (const name of names) {
    const isThere = METRICS.some((one) => one.name === metricOf(name));
    assert.ok(isThere, `/metrics gives no ${name}`);
  }
}

describe('docs/metrics.md', () => {
  it('has a row for each metric, with what /metrics says of it, and no other', () => {
    const rows = tableRows(section(page, 'The metrics').split('\nLabel values')[0] ?? '');
    const known = METRICS.map(({ name, type, labels = [], help }) => [
      ...[`\`${name}\``, type, labels.map((label) => `\`${label}\``).join(', '), help],
    ]);
    assert.deepEqual(rows, known);
  });

  it('names no metric that is not given', () => assertGiven(page));

  it('has the values of each label that has few', () => {
    const rows = tableRows(section(page, 'The metrics').split('\nLabel values')[1] ?? '');
    const valuesOf = (label: string): string[] => {
      const [, cell = ''] = rows.find(([name]) => name === `\`${label}\``) ?? [];
      return [...cell.matchAll(/`([^`]+)`/g)].map(([, value]) => String(value));
    };
    assert.deepEqual(valuesOf('phase'), ['idle', ...SHUTDOWN_EVENTS]);
    assert.deepEqual(valuesOf('outcome'), OUTCOMES);
    assert.deepEqual(valuesOf('kind'), CONNECTION_KINDS);
    assert.deepEqual(valuesOf('state'), GENERATION_STATES);
    assert.deepEqual(valuesOf('call'), ADMIN_PATHS);
    assert.deepEqual(valuesOf('reason'), REFUSAL_KINDS);
    const labels = new Set(METRICS.flatMap((one) => one.labels ?? []));
    for (const label of ['version', 'generation']) labels.delete(label);
    assert.deepEqual(rows.map(([name]) => name).sort(), [...labels].map((l) => `\`${l}\``).sort());
  });

  it('has a section for each alert, and no other', () => {
    const sections = headings(section(page, 'Alerts'));
    assert.deepEqual(
      sections,
      alerts.map(({ alert }) => alert),
    );
  });
});

describe('deploy/prometheus/alerts.yaml', () => {
  it('asks for metrics that are given', () => {
    for (const { alert, expr } of alerts) {
      if (alert !== 'Pm2EnvoyManagerAbsent') assertGiven(expr);
    }
  });

  it('says of each alert what it is, how bad, and where to read on', () => {
    for (const { alert, labels, annotations } of alerts) {
      const { summary, description, runbook } = annotations;
      assert.ok(summary && description && labels.severity, alert);
      const [path, anchor] = (runbook ?? '').split('#');
      assert.equal(path, 'docs/metrics.md', alert);
      assert.ok(
        headings(page)
          .map(slugOf)
          .includes(anchor ?? ''),
        `${alert}: ${runbook}`,
      );
    }
  });

  it('has tests in which each alert fires, and in which it does not', () => {
    const { tests } = parse(read('deploy/prometheus/alerts.test.yaml'));
    const checks = (tests as readonly AlertTest[]).flatMap(
      ({ alert_rule_test }) => alert_rule_test,
    );
    for (const { alert } of alerts) {
      const own = checks.filter(({ alertname }) => alertname === alert);
      const fires = own.map(({ exp_alerts = [] }) => exp_alerts.length > 0);
      assert.deepEqual(new Set(fires), new Set([true, false]), alert);
    }
  });
});

describe('deploy/grafana/dashboard.json', () => {
  it('asks for metrics that are given, of the chosen data source and instance', () => {
    for (const { title, targets = [] } of panels) {
      assert.ok(targets.length > 0, title);
      for (const { expr, datasource } of targets) {
        assertGiven(expr);
        assert.ok(expr.includes('instance=~"$instance"'), title);
        assert.match(datasource.uid, /^\$\{datasource\}$/, title);
      }
    }
    const variables = dashboard.templating.list.map((one: { name: string }) => one.name);
    assert.deepEqual(variables, ['datasource', 'instance']);
  });

  it('says in each panel what it shows, and its unit', () => {
    for (const { title, description, fieldConfig } of panels) {
      assert.ok(description, title);
      assert.ok(fieldConfig?.defaults.unit, title);
    }
  });

  it('uses panels that Grafana still has, each with a number and a place of its own', () => {
    const taken = new Set<string>();
    for (const { type, gridPos } of panels) {
      assert.ok(['stat', 'timeseries', 'state-timeline'].includes(type), type);
      assert.ok(gridPos.x + gridPos.w <= 24);
      for (let x = gridPos.x; x < gridPos.x + gridPos.w; x += 1) {
        for (let y = gridPos.y; y < gridPos.y + gridPos.h; y += 1) {
          assert.ok(!taken.has(`${x} ${y}`), `two panels at ${x}, ${y}`);
          taken.add(`${x} ${y}`);
        }
      }
    }
    const ids = dashboard.panels.map(({ id }: Panel) => id);
    assert.equal(new Set(ids).size, ids.length);
  });

  it('can be imported: it has a uid, and no id of the Grafana that it was made in', () => {
    assert.equal('id' in dashboard, false);
    assert.match(dashboard.uid, /^[a-z0-9-]{1,40}$/);
  });
});
