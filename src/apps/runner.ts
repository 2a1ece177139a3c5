/** The pm2 app `envoy`: see ../runner/main.ts. */
import { startApp } from './entry.js';

await startApp('envoy', {
  signals: () => import('../pm2/stop-signals.js'),
  main: () => import('../runner/main.js'),
});
