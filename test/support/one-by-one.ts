import { request } from './clients.js';

/** Load on one port. */
export interface OneByOne {
  /** Resolves to what was not answered with 200. */
  stop(): Promise<string[]>;
}

/** Requests one after the other, each on a connection of its own, `pauseMs` apart. */
export function requestsOneByOne(port: number, pauseMs: number): OneByOne {
  const failed: string[] = [];
  let isOver = false;
  const run = (async () => {
    while (!isOver) {
      const answer = await request(port).catch((error: unknown) => String(error));
      if (typeof answer === 'string' || answer.status !== 200) failed.push(JSON.stringify(answer));
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
  })();
  return {
    stop: async () => {
      isOver = true;
      await run;
      return failed;
    },
  };
}
