#!/bin/sh
# ExecStopPost of the unit. After a requested stop, nothing may be left; if pm2's daemon has
# died, Envoy has to keep serving until the next daemon takes over from it.
unit=$1

left() {
  for file in $(grep -ls "/$unit\$" /proc/[0-9]*/cgroup); do
    pid=${file#/proc/}
    pid=${pid%/cgroup}
    # Neither this script nor what it has started.
    case $pid:$(cut -d ' ' -f 4 "/proc/$pid/stat" 2>/dev/null) in
      $$:* | *:$$ | *:) ;;
      *) echo "$pid" ;;
    esac
  done
}

case $SERVICE_RESULT in
  success)
    # A stop in the second after the daemon's death: Envoy is still to be drained.
    [ -z "$(left)" ] || /usr/local/bin/pm2-envoy shutdown
    ;;
  timeout) ;;
  *) exit 0 ;;
esac

for pid in $(left); do
  echo "ending $pid, which the stop has left: $(tr '\0' ' ' <"/proc/$pid/cmdline" | cut -c 1-200)"
  kill -KILL "$pid"
done
