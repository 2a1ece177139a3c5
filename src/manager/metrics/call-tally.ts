import { ADMIN_PATHS, type AdminCall } from '../../admin/client.js';
import type { ErrorCode } from '../../errors.js';
import { REFUSAL_KINDS, type RefusalKind } from '../http/access.js';
import { createCounters, type Sample } from './counters.js';

/** Counts the calls that the manager makes and refuses, since its start. */
export interface CallTally {
  noteAdminCall(call: AdminCall): void;
  noteRefusal(kind: RefusalKind): void;
  samples(): Sample[];
}

const CALLS = 'pm2_envoy_admin_calls_total';
const SECONDS = 'pm2_envoy_admin_call_seconds_total';
const ERRORS = 'pm2_envoy_admin_errors_total';
const REFUSED = 'pm2_envoy_refused_requests_total';

const ADMIN_ERRORS: readonly ErrorCode[] = [
  'admin-gone',
  'admin-timeout',
  'admin-refused',
  'admin-payload',
  'admin-failed',
];

/** Creates the tally. */
export function createCallTally(): CallTally {
  const { add, samples } = createCounters([
    ...[CALLS, SECONDS].flatMap((name) => ADMIN_PATHS.map((call) => ({ name, labels: { call } }))),
    ...ADMIN_PATHS.flatMap((call) =>
      ADMIN_ERRORS.map((code) => ({ name: ERRORS, labels: { call, code } })),
    ),
    ...REFUSAL_KINDS.map((reason) => ({ name: REFUSED, labels: { reason } })),
  ]);
  return {
    noteAdminCall: ({ path, tookMs, error }) => {
      add(CALLS, { call: path });
      add(SECONDS, { call: path }, tookMs / 1_000);
      if (error) add(ERRORS, { call: path, code: error });
    },
    noteRefusal: (kind) => add(REFUSED, { reason: kind }),
    samples,
  };
}
