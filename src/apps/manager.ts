/** The pm2 app `envoy-manager`: see ../manager/main.ts. */
import { startApp } from './entry.js';

await startApp('envoy-manager', {
  signals: () => import('../pm2/stop-signals.js'),
  main: () => import('../manager/main.js'),
});
