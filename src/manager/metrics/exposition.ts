import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { MetricDefinition } from './catalogue.js';
import type { Sample } from './counters.js';

/** Samples as Prometheus reads them. */
export interface Exposition {
  readonly contentType: string;
  /** The text with exactly these samples; throws a TypeError for one of no metric. */
  render(samples: readonly Sample[]): Promise<string>;
}

/** Creates the text format of these metrics; one without samples shows its help only. */
export function createExposition(definitions: readonly MetricDefinition[]): Exposition {
  const registry = new Registry();
  const metrics = new Map(
    definitions.map((definition) => [definition.name, createMetric(definition, registry)]),
  );
  const nameOf = ({ name }: Sample): string => {
    const found = [name, name.replace(/_(bucket|sum|count)$/, '')].find((one) => metrics.has(one));
    if (found === undefined) throw new TypeError(`there is no metric ${name}`);
    return found;
  };
  return {
    contentType: registry.contentType,
    render: (samples) => {
      const grouped = new Map<string, Sample[]>();
      for (const sample of samples) {
        const name = nameOf(sample);
        grouped.set(name, [...(grouped.get(name) ?? []), sample]);
      }
      for (const [name, show] of metrics) show(grouped.get(name) ?? []);
      return registry.metrics();
    },
  };
}

/** Registers a metric; the result has it show nothing but these samples. */
function createMetric(
  { name, type, help, labels = [] }: MetricDefinition,
  registry: Registry,
): (samples: readonly Sample[]) => void {
  const options = { name, help, labelNames: labels, registers: [registry] };
  if (type === 'histogram') return createHistogram(options);
  const metric = type === 'gauge' ? new Gauge(options) : new Counter(options);
  return (samples) => {
    metric.reset();
    // Without labels, reset leaves a 0.
    if (labels.length === 0) metric.remove();
    for (const { labels: of, value } of samples) metric.inc(of, value);
  };
}

/** prom-client's own can only observe one value after the other; ours has been counted before. */
function createHistogram(
  options: ConstructorParameters<typeof Histogram>[0],
): (samples: readonly Sample[]) => void {
  const { name, help } = options;
  let values: object[] = [];
  const getForPromString = async (): Promise<object> => ({ name, help, type: 'histogram', values });
  Object.assign(new Histogram(options), { getForPromString });
  return (samples) => {
    values = samples.map(({ name: metricName, labels, value }) => ({ metricName, labels, value }));
  };
}
