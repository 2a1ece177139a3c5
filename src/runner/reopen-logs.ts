import { createAdminClient } from '../admin/client.js';
import { messageOf } from '../errors.js';
import type { Generations } from '../host/generations.js';
import type { Log } from '../log.js';

/**
 * Makes every generation open the files of its access logs again: during a reload the old one writes to them
 * too, and its runner may be gone. Never rejects; bounded by the time limit of a call.
 */
export async function reopenLogs(generations: Generations, log: Log): Promise<void> {
  await Promise.all(
    generations.live().map(async ({ number, adminSocket }) => {
      const admin = createAdminClient({ kind: 'unix', path: adminSocket });
      try {
        await admin.reopenLogs();
        log.info(`generation ${number} has reopened its logs`);
      } catch (error) {
        log.warn(`generation ${number} can't reopen its logs: ${messageOf(error)}`);
      } finally {
        admin.close();
      }
    }),
  );
}
