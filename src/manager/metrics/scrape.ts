import { type Clock, systemClock } from '../../clock.js';
import type { Config } from '../../config/config.js';
import { packageVersion } from '../../package-root.js';
import type { PluginHost } from '../../plugins/api/types.js';
import { shareInFlight } from '../../share.js';
import type { Status, StatusReader } from '../../status/status.js';
import type { Scrape } from '../http/metrics.js';
import type { CallTally } from './call-tally.js';
import { METRICS } from './catalogue.js';
import type { Sample } from './counters.js';
import type { DrainTally } from './drain-tally.js';
import type { Exposition } from './exposition.js';
import { processSamples } from './process-samples.js';
import { statusSamples } from './status-samples.js';

/** What a scrape waits for Envoy at most; Prometheus by default gives up after 10 s. */
const ENVOY_LIMIT_MS = 4_000;

/**
 * Creates what `/metrics` answers. Scrapes at the same moment share one; while Envoy does not answer, it
 * tells what is known without it.
 */
export function createScrape(options: {
  config: Pick<Config, 'drainTimeoutMs'>;
  status: Pick<StatusReader, 'read' | 'peek'>;
  calls: CallTally;
  drains: DrainTally;
  host: Pick<PluginHost, 'hookNames' | 'failures'>;
  clock?: Clock;
}): () => Promise<Scrape> {
  const { config, status, calls, drains, host, clock = systemClock } = options;
  const own: readonly Sample[] = [
    { name: 'pm2_envoy_build_info', labels: { version: packageVersion() }, value: 1 },
    { name: 'pm2_envoy_drain_timeout_seconds', labels: {}, value: config.drainTimeoutMs / 1_000 },
  ];
  let exposition: Promise<Exposition> | undefined;

  const readStatus = async (): Promise<Status> => {
    const over = new AbortController();
    const limit = clock.sleep(ENVOY_LIMIT_MS, over.signal);
    const read = await Promise.race([status.read(), limit]);
    over.abort();
    return read ?? status.peek();
  };
  return shareInFlight(async () => {
    exposition ??= loadExposition().catch((error: unknown) => {
      exposition = undefined;
      throw error;
    });
    const { contentType, render } = await exposition;
    const now = await readStatus();
    const text = await render([
      ...own,
      ...statusSamples(now, Date.now()),
      ...drains.samples(),
      ...calls.samples(),
      ...hookSamples(host),
      ...processSamples(),
    ]);
    return { contentType, text };
  });
}

/** Loaded for the first scrape only: many managers are never scraped, and all of them start. */
async function loadExposition(): Promise<Exposition> {
  const { createExposition } = await import('./exposition.js');
  return createExposition(METRICS);
}

function hookSamples({
  hookNames,
  failures,
}: Pick<PluginHost, 'hookNames' | 'failures'>): Sample[] {
  return hookNames.map((hook) => ({
    name: 'pm2_envoy_hook_failures_total',
    labels: { hook },
    value: failures.get(hook) ?? 0,
  }));
}
