/**
 * Ends in order when whoever read our output is gone (`errata watch | head -1`): an error of the
 * pipe is no error of ours. What waits for Ctrl-C is interrupted; anything else writes into the
 * void until it is done.
 */
export function endWithReader(streams: readonly NodeJS.WritableStream[]): void {
  for (const stream of streams) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') throw error;
      if (process.listenerCount('SIGINT') > 0) process.emit('SIGINT');
    });
  }
}
