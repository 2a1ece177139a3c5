import { join } from 'node:path';
import { createAdminClient } from '../admin/client.js';
import { until } from '../clock.js';
import type { Config } from '../config/config.js';
import { readEnds } from '../drain/ends.js';
import { createHostDrain } from '../drain/host-drain.js';
import { createEnvoyLocator, type Located } from '../drain/locate.js';
import { isPm2EnvoyError, messageOf, Pm2EnvoyError } from '../errors.js';
import { EXIT } from '../exit-codes.js';
import { readEndpoint, writeEndpoint } from '../host/endpoint.js';
import { findRunDir, prepareRunDir } from '../host/run-dir.js';
import { createDrainHost } from '../plugins/drain-host.js';
import { drainLimitMs } from '../pm2/apps.js';
import { type App, boot } from '../pm2/boot.js';
import { onStop } from '../pm2/stop-signals.js';
import { createJournal } from '../status/journal.js';
import { createObserver } from '../status/observer.js';
import { createStatusReader } from '../status/status.js';
import { registerActions } from './actions.js';
import { watchHealth } from './health.js';
import { createApp } from './http/app.js';
import { createEventStream } from './http/events.js';
import { createPage } from './http/page.js';
import { type ManagerServer, serve } from './http/serve.js';
import { createCallTally } from './metrics/call-tally.js';
import { createDrainTally } from './metrics/drain-tally.js';
import { createPm2Metrics } from './metrics/pm2.js';
import { createScrape } from './metrics/scrape.js';

/** How long a manager that pm2 stops looks for a drain that begins at the same moment. */
const DRAIN_APPEARS_MS = 500;

/** The pm2 app `envoy-manager`: serves the endpoints and drains on SIGTERM. */
await boot('envoy-manager', async (app) => {
  const { config, log, channel, exit } = app;
  const runDir = prepareRunDirOrWarn(app);
  const host = await createDrainHost(config, log);
  // Two connections to Envoy: the drain must not queue behind somebody who watches.
  const calls = createCallTally();
  const onAdminCall = calls.noteAdminCall;
  const drainLocator = createEnvoyLocator({ config, runDir, log, onAdminCall });
  const locator = createEnvoyLocator({ config, runDir, log, onAdminCall, keepStartMs: 2_000 });
  const limitMs = drainLimitMs();
  const hostDrain = createHostDrain({
    locator: drainLocator,
    config,
    host,
    log,
    limitMs,
    onDrain: async () => pm2Metrics.look(await locator.locate()),
  });
  const pm2Metrics = createPm2Metrics({ channel, config, locator, hostDrain });
  const drains = createDrainTally({ file: join(runDir, 'counted.json'), log });
  const journal = createJournal({
    readEnds: () => readEnds(runDir),
    onEnded: drains.noteEnd,
    onFailedReload: drains.noteFailedReload,
  });
  const onLook = (located: Located | undefined): void => {
    journal.note(located, hostDrain.state(located));
    pm2Metrics.look(located);
  };
  const health = watchHealth({ config, locator, hostDrain, log, onLook });
  const status = createStatusReader({ config, locator, hostDrain, onLook: journal.note });
  const events = createEventStream({ observer: createObserver(status), journal });
  const actions = registerActions({ channel, hostDrain, readStatus: status.read, log });
  const listener = createApp({
    config,
    hostDrain,
    health,
    log,
    readStatus: status.read,
    scrape: createScrape({ config, status, calls, drains, host }),
    events,
    page: createPage({ status, journal }),
    onRefused: calls.noteRefusal,
  });
  await refuseWhatIsNoEnvoy(config);
  let server: ManagerServer | undefined;
  let isLeaving = false;
  let drained: Promise<unknown> | undefined;
  app.survivesFaults = () => isLeaving || hostDrain.isUnderWay(undefined);

  /** pm2 stops the manager: that must not take Envoy out of service, but callers get their answer. */
  const stayForDrain = async (): Promise<void> => {
    const isUnderWay = async (): Promise<true | undefined> =>
      drained || hostDrain.isUnderWay(await locator.locate()) ? true : undefined;
    const found = await until(isUnderWay, { everyMs: 50, limitMs: DRAIN_APPEARS_MS });
    if (found) drained ??= hostDrain.drain();
  };
  const leave = async (reason: string): Promise<void> => {
    if (isLeaving) return;
    isLeaving = true;
    log.info(`${reason}: leaving`);
    if (!drained) await stayForDrain();
    await drained;
    await host.settled();
    events.close();
    await server?.close();
    // A SIGTERM that came after a SIGINT.
    await drained;
    await channel.answered();
    await exit(EXIT.done);
  };
  onStop(async (reason) => {
    if (reason === 'SIGTERM') drained ??= hostDrain.drain();
    if (await actions.isTrigger(reason)) return;
    await leave(reason);
  });
  channel.onDisconnect(() => void leave('pm2 is gone'));

  server = await serve({
    listener,
    address: config.serveAddress,
    port: config.servePort,
    isHeldByManager: () => readEndpoint(runDir)?.port === config.servePort,
    log,
  });
  log.info(`serving on http://${hostOf(server.address)}:${server.port}`);
  try {
    writeEndpoint(runDir, server);
  } catch (error) {
    log.warn(`the run directory ${runDir} can't be written: ${messageOf(error)}`);
  }
  await hostDrain.resumeAbandoned();
  const unready = await health.unready();
  if (unready) log.info(`Envoy: ${unready.message}`);
});

/** An admin-address that answers, but not as Envoy does, is a mistake; one that is silent may just be early. */
async function refuseWhatIsNoEnvoy({ adminAddress }: Config): Promise<void> {
  if (!adminAddress) return;
  const admin = createAdminClient(adminAddress);
  await admin.state().catch((error: unknown) => {
    if (!isPm2EnvoyError(error, 'admin-payload')) return;
    throw new Pm2EnvoyError('config-invalid', `admin-address: ${error.message}`, { cause: error });
  });
  admin.close();
}

/** The manager works without a run directory; only others can't join its drain then. */
function prepareRunDirOrWarn({ config, log }: App): string {
  try {
    return prepareRunDir(config.runDir);
  } catch (error) {
    log.warn(messageOf(error));
    return findRunDir(config.runDir);
  }
}

function hostOf(address: string): string {
  return address.includes(':') ? `[${address}]` : address;
}
