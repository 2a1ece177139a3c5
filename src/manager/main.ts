import { join } from 'node:path';
import type { Express } from 'express';
import { type AdminCall, createAdminClient } from '../admin/client.js';
import type { Config } from '../config/config.js';
import { type Counters, createCounters } from '../drain/count.js';
import { readEnds } from '../drain/ends.js';
import { createHostDrain, type HostDrain } from '../drain/host-drain.js';
import { createEnvoyLocator, type EnvoyLocator } from '../drain/locate.js';
import { createWitness } from '../drain/witness.js';
import { isPm2EnvoyError, messageOf, Pm2EnvoyError } from '../errors.js';
import { generationsElsewhere, startedElsewhere } from '../host/elsewhere.js';
import { readEndpoint, writeEndpoint } from '../host/endpoint.js';
import { type FailedStart, readFailedStart } from '../host/failed-start.js';
import { type Generation, openGenerations } from '../host/generations.js';
import { findRunDir, prepareRunDir } from '../host/run-dir.js';
import type { PluginHost } from '../plugins/api/types.js';
import { createHostOrBareOne } from '../plugins/drain-host.js';
import { drainLimitMs, ownKillTimeoutMs } from '../pm2/apps.js';
import { type App, boot } from '../pm2/boot.js';
import { openPm2Daemon } from '../pm2/daemon.js';
import { openOwnApp } from '../pm2/own-app.js';
import { namesMeet } from '../pm2/project.js';
import { ownSupervisor, pm2Home } from '../pm2/supervisor.js';
import { createJournal } from '../status/journal.js';
import { createObserver } from '../status/observer.js';
import { createStatusReader, type StatusReader } from '../status/status.js';
import { registerActions } from './actions.js';
import { watchHealth } from './health.js';
import { createApp } from './http/app.js';
import { createEventStream, type EventStream } from './http/events.js';
import type { Health } from './http/health.js';
import { createPage } from './http/page.js';
import { type ManagerServer, serve } from './http/serve.js';
import { leaveOnStop } from './leave.js';
import { endWhatRestartLeft } from './left.js';
import { type CallTally, createCallTally } from './metrics/call-tally.js';
import { createDrainTally } from './metrics/drain-tally.js';
import { createPm2Metrics, type Pm2Metrics } from './metrics/pm2.js';
import { createScrape } from './metrics/scrape.js';
import { createSight } from './sight.js';

/** The pm2 app `envoy-manager`: serves the endpoints and drains on SIGTERM. */
await boot('envoy-manager', async (app) => {
  const { config, log } = app;
  const runDir = prepareRunDirOrWarn(app);
  refuseOtherProject(runDir);
  const { host, pluginError } = await createHostOrBareOne(config, log);
  // Before anything serves it is refused; later, probes and drains are worth more.
  if (pluginError && !isInService(config, runDir)) throw pluginError;
  for (const line of pluginError ? messageOf(pluginError).split('\n') : []) log.error(line);
  if (pluginError) log.error('Envoy is in service: continuing without plugins');
  const daemon = openPm2Daemon(pm2Home());
  const ownApp = openOwnApp({ daemon });
  const draining = openDraining(app, runDir, host);
  const { hostDrain, locator } = draining;
  const { listener, events, health, readStatus } = openEndpoints(app, {
    ...draining,
    ...{ runDir, host, pluginError },
  });
  const actions = registerActions({ ...app, hostDrain, readStatus, ownApp });
  await refuseWhatIsNoEnvoy(config);
  let server: ManagerServer | undefined;
  leaveOnStop(app, {
    ...{ hostDrain, locator, host, actions, ownApp },
    endWhatRestartLeft: () =>
      endWhatRestartLeft({ generations: openGenerations(runDir), hostDrain, log }, daemon),
    stopServing: async () => {
      events.close();
      await server?.close();
    },
  });

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

/** The drain of this host, and what else asks the same Envoys. */
interface Draining {
  hostDrain: HostDrain;
  /** For all but the drain. */
  locator: EnvoyLocator;
  counters: Counters;
  calls: CallTally;
  pm2Metrics: Pm2Metrics;
}

function openDraining({ config, log, channel }: App, runDir: string, host: PluginHost): Draining {
  const calls = createCallTally();
  const sight = createSight(runDir, log);
  const onAdminCall = (call: AdminCall): void => {
    calls.noteAdminCall(call);
    sight.note(call);
  };
  // Two connections to Envoy: the drain must not queue behind a client that watches.
  const drainLocator = createEnvoyLocator({ config, runDir, log, onAdminCall });
  const locator = createEnvoyLocator({ config, runDir, log, onAdminCall, keepStartMs: 2_000 });
  const counters = createCounters(config);
  const hostDrain = sight.guard(
    createHostDrain({
      locator: drainLocator,
      config,
      host,
      log,
      limitMs: drainLimitMs(),
      counters,
      onDrain: async () => pm2Metrics.look(await locator.locate()),
    }),
  );
  const pm2Metrics = createPm2Metrics({ channel, counters, locator, hostDrain });
  return { hostDrain, locator, counters, calls, pm2Metrics };
}

/** What the manager serves. */
interface Endpoints {
  listener: Express;
  events: EventStream;
  health: Health;
  readStatus: StatusReader['read'];
}

function openEndpoints(
  { config, log }: App,
  from: Draining & { runDir: string; host: PluginHost; pluginError: unknown },
): Endpoints {
  const { hostDrain, locator, counters, calls, pm2Metrics, runDir, host, pluginError } = from;
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
  const shared = {
    ...{ config, locator, hostDrain, log },
    witness: createWitness(),
    readFailedStart: (): FailedStart | undefined => readFailedStart(runDir),
  };
  const health = watchHealth({
    ...shared,
    onLook: (located) => {
      journal.note(located, hostDrain.state(located));
      pm2Metrics.look(located);
    },
  });
  const status = createStatusReader({
    ...shared,
    counters,
    ...(pluginError ? { standingError: messageOf(pluginError) } : {}),
    onLook: journal.note,
    killTimeoutMs: ownKillTimeoutMs(),
  });
  const events = createEventStream({ observer: createObserver(status), journal });
  const listener = createApp({
    ...{ config, runDir, hostDrain, health, log, events },
    readStatus: status.read,
    scrape: createScrape({ config, status, calls, drains, host }),
    page: createPage({ status, journal }),
    onRefused: calls.noteRefusal,
  });
  return { listener, events, health, readStatus: status.read };
}

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
