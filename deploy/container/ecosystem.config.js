// The two apps as the image runs them. What can be set of them: PM2_ENVOY_… (docs/configuration.md).
import { envoyApps } from 'pm2-envoy';

// The container's output has it all; pm2's own log files would grow for ever.
const quiet = { out_file: '/dev/null', error_file: '/dev/null' };

export const apps = appsOrExit().map((app) => ({ ...app, ...quiet }));

/** pm2-runtime itself would end with 0, which nobody takes for a mistake. */
function appsOrExit() {
  try {
    return envoyApps({ cwd: '/etc/pm2-envoy' });
  } catch (error) {
    console.error(error.message);
    process.exit(78);
  }
}
