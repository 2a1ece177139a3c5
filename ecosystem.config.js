// The two apps that pm2 supervises. Everything in them is derived from pm2-envoy's own
// configuration (docs/configuration.md), so that no time has to be set twice.
import { envoyApps } from './dist/pm2/apps.js';

export const apps = envoyApps({ cwd: import.meta.dirname });
