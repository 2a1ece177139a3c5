/** The pm2 app `envoy`: see ../runner/main.ts. Signals are caught before the rest is loaded. */
import '../pm2/stop-signals.js';

await import('../runner/main.js');
