#!/bin/sh
# /usr/local/bin/pm2-envoy, and pm2 as a link to it: run the commands as the service's user, with its settings.
name=$(basename "$0")
if [ "$(id -un)" != pm2-envoy ]; then
  if [ "$(id -u)" != 0 ]; then
    echo "$name: only root and pm2-envoy may: sudo $name $*" >&2
    exit 1
  fi
  exec runuser -u pm2-envoy -- "$0" "$@"
fi
# If there is no daemon, pm2 would start one here: without the unit's capability, and in conflict with the unit.
if [ "$name" = pm2 ] && ! systemctl is-active --quiet pm2-pm2-envoy; then
  echo 'pm2-pm2-envoy.service is not active: systemctl start pm2-pm2-envoy' >&2
  exit 1
fi
export HOME=/var/lib/pm2-envoy PM2_HOME=/var/lib/pm2-envoy/.pm2
export PM2_ENVOY_CONFIG="${PM2_ENVOY_CONFIG-/etc/pm2-envoy/pm2-envoy.json}"
exec "/opt/pm2-envoy/node_modules/.bin/$name" "$@"
