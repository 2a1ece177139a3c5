/** What `behindEnvoy()` has Node load before an app that Envoy sends requests to: see ../pm2/behind-envoy.ts. */
import { findRunDir } from '../host/run-dir.js';
import { HOLD_VARIABLE, type Hold, holdStops, untilEnvoyHasEnded } from '../pm2/hold-stop.js';

holdStops(async () => {
  // Not before: in cluster mode pm2 sets the variables once this module is loaded.
  const text = process.env[HOLD_VARIABLE];
  if (!text) return;
  const { runDir, limitMs } = JSON.parse(text) as Hold;
  await untilEnvoyHasEnded({ runDir: findRunDir(runDir), limitMs });
});
