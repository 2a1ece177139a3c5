/** The pm2 module `pm2-envoy` (`pm2 install pm2-envoy`): see ../pm2/module/main.ts, and the manager in it. */
import { startApp } from './entry.js';

await startApp('pm2-envoy', {
  signals: () => import('../pm2/stop-signals.js'),
  main: async () => {
    const { prepareModule } = await import('../pm2/module/main.js');
    await prepareModule();
    await import('../manager/main.js');
  },
});
