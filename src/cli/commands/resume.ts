import { type DrainResult, describeTooLate } from '../../drain/state.js';
import { isPm2EnvoyError, Pm2EnvoyError, unreachable } from '../../errors.js';
import { EXIT } from '../../exit-codes.js';
import { findRunDir } from '../../host/run-dir.js';
import { createManagerClient } from '../../status/manager-client.js';
import type { CliContext } from '../terminal/context.js';
import { openDirectDrain } from './direct.js';
import { refuseForeign } from './refuse-foreign.js';

/** `pm2-envoy resume`: cancels the drain through the manager, or directly when it is down. */
export async function runResume(cli: CliContext): Promise<number> {
  await refuseForeign(cli, 'not resumed');
  const body = await resumeSomehow(cli);
  if (cli.json) cli.io.out(JSON.stringify(body));
  else if (!body.resumed) cli.io.out('no drain is under way, and Envoy is LIVE');
  else
    cli.io.out(body.drain ? 'the drain is cancelled; Envoy is LIVE again' : 'Envoy is LIVE again');
  return EXIT.done;
}

interface Resumed {
  resumed: boolean;
  drain: DrainResult | null;
}

async function resumeSomehow(cli: CliContext): Promise<Resumed> {
  const { config } = cli.load();
  const manager = createManagerClient(config, findRunDir(config.runDir));
  try {
    return await manager.resume();
  } catch (error) {
    if (!isPm2EnvoyError(error, 'manager-unreachable')) throw error;
    cli.io.note(`${error.message}: asking Envoy directly`);
  }
  const { hostDrain, host } = await openDirectDrain(cli, config, { hung: manager.hung() });
  const result = await hostDrain.resume();
  await host.settled();
  switch (result.kind) {
    case 'resumed':
      return { resumed: true, drain: result.drain };
    case 'nothing':
      return { resumed: false, drain: null };
    case 'too-late':
      throw notResumable(result.reason);
    case 'unreachable':
      throw new Pm2EnvoyError('admin-failed', result.reason);
    default:
      return unreachable(result);
  }
}

/** What is said when a drain is past the point of no return. */
export function notResumable(reason: string): Pm2EnvoyError {
  return new Pm2EnvoyError('not-resumable', describeTooLate(reason));
}
