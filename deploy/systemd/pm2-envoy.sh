#!/bin/sh
# /usr/local/bin/pm2-envoy and /usr/local/bin/pm2: the commands as the service's user, with its settings. So
# nobody starts a pm2 of root's own by mistake.
if [ "$(id -un)" != pm2-envoy ]; then
  exec runuser -u pm2-envoy -- "$0" "$@"
fi
export HOME=/var/lib/pm2-envoy
export PM2_ENVOY_CONFIG="${PM2_ENVOY_CONFIG-/etc/pm2-envoy/pm2-envoy.json}"
exec "/opt/pm2-envoy/node_modules/.bin/$(basename "$0")" "$@"
