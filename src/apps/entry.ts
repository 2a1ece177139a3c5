/** The oldest Node that the apps run on: `engines` of package.json. */
const OLDEST_NODE = [20, 19] as const;
/** pm2 starts an app that ends with 1 again, with back-off; with 78 it leaves it stopped. */
const TRY_AGAIN = 1;
const CONFIGURATION = 78;
const WRITE_LIMIT_MS = 1_000;

/**
 * Loads one of the two apps, `main`; its signals are caught before the rest is loaded.
 *
 * The files of the package may be missing or half replaced, or pm2's daemon may be of another Node. No one
 * hears of an import that fails in pm2's containers, so that is said here, in one line, and the process ends. This
 * module imports nothing itself, so that it can always be loaded.
 */
export async function startApp(
  name: string,
  load: { signals: () => Promise<unknown>; main: () => Promise<unknown> },
): Promise<void> {
  const { node } = process.versions;
  if (isTooOld(node)) {
    const needed = OLDEST_NODE.join('.');
    return end(
      CONFIGURATION,
      `the app ${name} needs Node ${needed} or later, and pm2's daemon runs Node ${node} (${process.execPath}): start pm2 itself with a newer Node (\`pm2 update\` from a shell that has it)`,
    );
  }
  try {
    await load.signals();
    await load.main();
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    await end(
      TRY_AGAIN,
      `the app ${name} can't be loaded: ${reason.split('\n')[0]}; are the files of pm2-envoy complete (${import.meta.dirname})? pm2 retries`,
    );
  }
}

/** Whether the apps can't run on a Node of this version. */
export function isTooOld(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  const [oldestMajor, oldestMinor] = OLDEST_NODE;
  return major < oldestMajor || (major === oldestMajor && minor < oldestMinor);
}

/** pm2's containers hand on what is written some time later. */
async function end(code: number, line: string): Promise<void> {
  await new Promise<void>((resolve) => {
    setTimeout(resolve, WRITE_LIMIT_MS);
    process.stderr.write(`pm2-envoy: ${line}\n`, () => resolve());
  });
  process.exit(code);
}
