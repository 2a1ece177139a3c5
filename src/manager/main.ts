import { join } from 'node:path';
import { type AdminCall, createAdminClient } from '../admin/client.js';
import { until } from '../clock.js';
import type { Config } from '../config/config.js';
import { createCounters } from '../drain/count.js';
import { readEnds } from '../drain/ends.js';
import { createHostDrain } from '../drain/host-drain.js';
import { createEnvoyLocator, type Located } from '../drain/locate.js';
import { createWitness } from '../drain/witness.js';
import { isPm2EnvoyError, messageOf, Pm2EnvoyError } from '../errors.js';
import { EXIT } from '../exit-codes.js';
import { generationsElsewhere, startedElsewhere } from '../host/elsewhere.js';
import { readEndpoint, writeEndpoint } from '../host/endpoint.js';
import { type FailedStart, readFailedStart } from '../host/failed-start.js';
import { type Generation, openGenerations } from '../host/generations.js';
import { findRunDir, prepareRunDir } from '../host/run-dir.js';
import { createHostOrBareOne } from '../plugins/drain-host.js';
import { drainLimitMs, ownKillTimeoutMs } from '../pm2/apps.js';
import { type App, boot } from '../pm2/boot.js';
import { openPm2Daemon } from '../pm2/daemon.js';
import { openOwnApp } from '../pm2/own-app.js';
import { namesMeet } from '../pm2/project.js';
import { onStop } from '../pm2/stop-signals.js';
import { ownSupervisor, pm2Home } from '../pm2/supervisor.js';
import { createJournal } from '../status/journal.js';
import { createObserver } from '../status/observer.js';
import { createStatusReader } from '../status/status.js';
import { registerActions } from './actions.js';
import { watchHealth } from './health.js';
import { createApp } from './http/app.js';
import { createEventStream } from './http/events.js';
import { createPage } from './http/page.js';
import { type ManagerServer, serve } from './http/serve.js';
import { endWhatRestartLeft } from './left.js';
import { createCallTally } from './metrics/call-tally.js';
import { createDrainTally } from './metrics/drain-tally.js';
import { createPm2Metrics } from './metrics/pm2.js';
import { createScrape } from './metrics/scrape.js';
import { createSight } from './sight.js';

/** How long a manager that pm2 stops looks for a drain that begins at the same moment. */
const DRAIN_APPEARS_MS = 500;

/** The pm2 app `envoy-manager`: serves the endpoints and drains on SIGTERM. */
await boot('envoy-manager', async (app) => {
  const { config, log, channel, exit } = app;
  const runDir = prepareRunDirOrWarn(app);
  refuseOtherProject(runDir);
  const { host, pluginError } = await createHostOrBareOne(config, log);
  // Before anything serves it is refused; later, probes and drains are worth more.
  if (pluginError && !isInService(config, runDir)) throw pluginError;
  for (const line of pluginError ? messageOf(pluginError).split('\n') : []) log.error(line);
  if (pluginError) log.error('Envoy is in service: continuing without plugins');
  // Two connections to Envoy: the drain must not queue behind a client that watches.
  const calls = createCallTally();
  const sight = createSight(runDir, log);
  const onAdminCall = (call: AdminCall): void => {
    calls.noteAdminCall(call);
    sight.note(call);
  };
  const drainLocator = createEnvoyLocator({ config, runDir, log, onAdminCall });
  const locator = createEnvoyLocator({ config, runDir, log, onAdminCall, keepStartMs: 2_000 });
  const limitMs = drainLimitMs();
  const counters = createCounters(config);
  const witness = createWitness();
  const daemon = openPm2Daemon(pm2Home());
  const ownApp = openOwnApp({ daemon });
  const hostDrain = sight.guard(
    createHostDrain({
      locator: drainLocator,
      config,
      host,
      log,
      limitMs,
      counters,
      onDrain: async () => pm2Metrics.look(await locator.locate()),
    }),
  );
  const pm2Metrics = createPm2Metrics({ channel, counters, locator, hostDrain });
  const drains = createDrainTally({
    file: join(runDir, 'counted.json'),
    drainUntil: config.drainUntil,
    log,
  });
  const journal = createJournal({
    readEnds: () => readEnds(runDir),
    onEnded: drains.noteEnd,
    onFailedReload: drains.noteFailedReload,
  });
  const onLook = (located: Located | undefined): void => {
    journal.note(located, hostDrain.state(located));
    pm2Metrics.look(located);
  };
  const readFailure = (): FailedStart | undefined => readFailedStart(runDir);
  const health = watchHealth({
    config,
    locator,
    hostDrain,
    witness,
    log,
    onLook,
    readFailedStart: readFailure,
  });
  const status = createStatusReader({
    config,
    locator,
    hostDrain,
    counters,
    witness,
    readFailedStart: readFailure,
    ...(pluginError ? { standingError: messageOf(pluginError) } : {}),
    onLook: journal.note,
    killTimeoutMs: ownKillTimeoutMs(),
  });
  const events = createEventStream({ observer: createObserver(status), journal });
  const actions = registerActions({ channel, hostDrain, readStatus: status.read, log, ownApp });
  const listener = createApp({
    config,
    runDir,
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
    await endWhatRestartLeft({ generations: openGenerations(runDir), hostDrain, log }, daemon);
    await host.settled();
    events.close();
    await server?.close();
    // A SIGTERM that came after a SIGINT.
    await drained;
    await channel.answered();
    await exit(EXIT.done);
  };
  onStop(async (reason) => {
    // With PM2_KILL_SIGNAL=SIGTERM it is how pm2 stops any app.
    if (reason === 'SIGTERM' && !(await ownApp.isEnding())) {
      drained ??= hostDrain.drain({ kind: 'signal', detail: reason });
    }
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

function isInService({ adminAddress }: Config, runDir: string): boolean {
  return adminAddress !== undefined || openGenerations(runDir).live().length > 0;
}

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

/** Started with another project's settings, it would drain the first one's Envoy for the second. */
function refuseOtherProject(runDir: string): void {
  const own = ownSupervisor();
  if (own.home === 'none') return;
  const isOwn = ({ supervisor }: Generation): boolean =>
    supervisor?.home === own.home && supervisor.folder === own.folder;
  const elsewhere = [...startedElsewhere(runDir), ...generationsElsewhere(runDir)].filter(isOwn);
  const problem = namesMeet(elsewhere);
  if (problem) throw problem;
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
