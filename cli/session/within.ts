/** Waits for the work for a limited time, then throws the error from `late`. */
export async function within<T>(
  waitMs: number,
  work: Promise<T>,
  late: () => Error = () => new Error(`no answer within ${waitMs / 1_000} s`),
): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(late()), waitMs);
  });
  try {
    return await Promise.race([work, timeout]);
  } finally {
    clearTimeout(timer);
  }
}
