// The two apps as the image runs them. Configure them with PM2_ENVOY_… (docs/configuration.md).
import { envoyApps } from 'pm2-envoy';

// The container's output has everything; pm2's own log files would grow forever.
const quiet = { out_file: '/dev/null', error_file: '/dev/null' };

export const apps = appsOrExit().map((app) => ({ ...app, ...quiet }));

/** pm2-runtime itself would exit with 0, which looks like success. */
function appsOrExit() {
  try {
    return envoyApps({ cwd: '/etc/pm2-envoy' });
  } catch (error) {
    console.error(error.message);
    process.exit(78);
  }
}
