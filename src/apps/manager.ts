/** The pm2 app `envoy-manager`: see ../manager/main.ts. Signals are caught before the rest is loaded. */
import '../pm2/stop-signals.js';

await import('../manager/main.js');
