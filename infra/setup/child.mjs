/** Runs a child in our place: our signals go to it, and its exit code becomes ours. */
import { spawn } from 'node:child_process';
import { constants } from 'node:os';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'];

/**
 * Resolves to the exit code by shell convention (128 + number for a signal). Throws if the child
 * cannot be started.
 */
export function runChild(executable, args, options = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(executable, args, { stdio: 'inherit', ...options });
    const forward = (signal) => child.kill(signal);
    const stopWithUs = () => child.kill('SIGTERM');
    for (const signal of SIGNALS) process.on(signal, forward);
    process.once('exit', stopWithUs);
    const finish = (settle, value) => {
      for (const signal of SIGNALS) process.off(signal, forward);
      process.off('exit', stopWithUs);
      settle(value);
    };
    child.once('error', (error) => finish(reject, error));
    child.once('close', (code, signal) =>
      finish(resolve, code ?? 128 + (constants.signals[signal] ?? 0)),
    );
  });
}
