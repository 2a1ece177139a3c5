/** A sign that connections have ended, which costs Envoy nothing. */
export interface CloseSign {
  /** Starts again. Called before Envoy is polled, so that nothing ends unseen in between. */
  begin(): void;
  /** How many have to end until the sign comes. False: nothing can be seen here, so ask by the clock. */
  expect(toGo: number): boolean;
  /** Whether as many files have been closed since, or Envoy can't be seen any more. */
  hasCome(): boolean;
}

/**
 * Creates the sign out of how many files Envoy has open. Decreases are added up, because others are opened
 * in between; they are more than the connections that ended, as upstream ones close too. So the sign says
 * when to ask Envoy, and never what it would answer.
 *
 * @param openFiles undefined: they can't be seen
 */
export function createCloseSign(openFiles: () => number | undefined): CloseSign {
  let last: number | undefined;
  let closed = 0;
  let expected = 0;
  return {
    begin: () => {
      last = openFiles();
      closed = 0;
    },
    expect: (toGo) => {
      expected = toGo;
      // An Envoy that is just ending can't be seen for a moment, and would hide the others until the next poll.
      last ??= openFiles();
      return last !== undefined;
    },
    hasCome: () => {
      const now = openFiles();
      if (now === undefined) return true;
      closed += Math.max(0, (last ?? 0) - now);
      last = now;
      return closed >= expected;
    },
  };
}
