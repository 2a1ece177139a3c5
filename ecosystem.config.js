// The two apps that pm2 supervises. Everything in them is derived from pm2-envoy's own
// configuration (docs/configuration.md), so a time is never typed twice.
import { envoyApps } from './dist/pm2/apps.js';

export const apps = envoyApps({ cwd: import.meta.dirname });
