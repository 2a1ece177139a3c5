import type { Config } from '../../config/config.js';
import { formatDuration } from '../../config/duration.js';
import { killTimeoutMs } from '../../config/grace-period.js';
import type { Pm2Process } from '../../pm2/daemon.js';
import { type FoundApp, isOf } from '../../pm2/find-app.js';
import { PM2_KILL_TIMEOUT_MS } from '../../pm2/hold-stop.js';
import { type Finding, warning } from './finding.js';

/**
 * Looks at the other apps of this pm2, which stops all at the same instant: one that Envoy needs must not be
 * gone before Envoy has drained. Which of them it needs only their owner knows. Pure.
 */
export function checkNeighbours({ all }: Pick<FoundApp, 'all'>, config: Config): Finding[] {
  const neededMs = killTimeoutMs(config);
  const short = all.filter(
    (one) => !isOf(one, 'runner') && !isOf(one, 'manager') && killMs(one) < neededMs,
  );
  const names = [...new Set(short.map((one) => `${one.name} (${formatDuration(killMs(one))})`))];
  if (names.length === 0) return [];
  return [
    warning(
      'pm2',
      `apps of the same pm2 with a shorter kill_timeout than a drain needs: ${names.join(', ')}; one that Envoy sends requests to is gone at a stop of all apps while Envoy still drains, and its clients get 503`,
      'for those behind Envoy: behindEnvoy({…}) in the ecosystem file, after envoyApps()',
    ),
  ];
}

function killMs({ settings }: Pm2Process): number {
  return settings.killTimeoutMs || PM2_KILL_TIMEOUT_MS;
}
