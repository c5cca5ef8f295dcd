/**
 * Ends cleanly when the reader of our output has gone, as with `errata watch | head -1`. A command
 * that waits for Ctrl-C is interrupted; any other finishes its work without output.
 */
export function endWithReader(streams: readonly NodeJS.WritableStream[]): void {
  for (const stream of streams) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') throw error;
      if (process.listenerCount('SIGINT') > 0) process.emit('SIGINT');
    });
  }
}
