/** Ctrl-C (SIGINT), SIGTERM or SIGHUP during a command; a second signal ends the process. */
export interface Interruption {
  /** Resolves with null on the signal. */
  readonly came: Promise<null>;
  /** Stops listening, so that the process can end. */
  end(): void;
}

export function listenForInterruption(): Interruption {
  let resolve!: (value: null) => void;
  const came = new Promise<null>((resolver) => (resolve = resolver));
  // Keeps the event loop alive if nothing else does.
  const alive = setInterval(() => {}, 3_600_000);
  const end = (): void => {
    for (const signal of SIGNALS) process.off(signal, interrupted);
    clearInterval(alive);
  };
  const interrupted = (): void => {
    end();
    resolve(null);
  };
  for (const signal of SIGNALS) process.on(signal, interrupted);
  return { came, end };
}

/** Resolves with null on an interruption, or with the error when `ended` settles first. */
export async function untilInterrupted(ended: Promise<Error>): Promise<Error | null> {
  const interruption = listenForInterruption();
  try {
    return await Promise.race([interruption.came, ended]);
  } finally {
    interruption.end();
  }
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
