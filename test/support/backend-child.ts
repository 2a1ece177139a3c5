// The process that startBackendProcess forks.
import { startBackend } from './backend.js';

// The test has ended, whatever way.
process.on('disconnect', () => process.exit());
const { httpPort, tcpPort } = await startBackend();
process.send?.({ httpPort, tcpPort });
