/**
 * Resolves with null on Ctrl-C (SIGINT), SIGTERM or SIGHUP, or with the error when `ended` settles first. A second
 * Ctrl-C takes the signal's ordinary way.
 */
export function untilInterrupted(ended: Promise<Error> = new Promise(() => {})): Promise<Error | null> {
  return new Promise((resolve) => {
    const finish = (failure: Error | null): void => {
      for (const signal of SIGNALS) process.off(signal, interrupted);
      clearInterval(alive);
      resolve(failure);
    };
    const interrupted = (): void => finish(null);
    for (const signal of SIGNALS) process.on(signal, interrupted);
    // Keeps the event loop alive where nothing else does.
    const alive = setInterval(() => {}, 3_600_000);
    void ended.then(finish);
  });
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
