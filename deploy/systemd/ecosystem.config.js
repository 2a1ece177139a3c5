// /etc/pm2-envoy/ecosystem.config.js: the settings are in pm2-envoy.json next to it.
const { envoyApps } = require('/opt/pm2-envoy/node_modules/pm2-envoy/dist/index.js');

const apps = envoyApps({
  cwd: __dirname,
  env: { PM2_ENVOY_CONFIG: `${__dirname}/pm2-envoy.json` },
});

module.exports = {
  apps: apps.map((app) => ({
    ...app,
    out_file: `/var/log/pm2-envoy/${app.name}.log`,
    error_file: `/var/log/pm2-envoy/${app.name}-error.log`,
    // One file for each app, without pm2's ids in its name.
    merge_logs: true,
  })),
};
