/** How long `errata why` takes, from the start of its process to its end. */
import { execFile } from 'node:child_process';
import path from 'node:path';
import { PROJECT_ROOT } from '../../infra/config/home.ts';

export interface WhySeconds {
  asked: 'correction id' | 'subject' | 'prompt, of a running serve';
  seconds: number[];
  /** Answers that name the right correction. */
  named: number;
}

/** Asks one question after the other, each of which has one correction as its answer. */
export async function measureWhy(
  asked: WhySeconds['asked'],
  questions: readonly { args: string[]; correctionId: string }[],
  environment: Record<string, string>,
): Promise<WhySeconds> {
  const seconds: number[] = [];
  let named = 0;
  for (const { args, correctionId } of questions) {
    const began = performance.now();
    const text = await why(args, environment);
    seconds.push((performance.now() - began) / 1_000);
    if (text.includes(JSON.stringify(correctionId))) named++;
  }
  return { asked, seconds, named };
}

const OUTPUT_BYTES_MAX = 64 * 2 ** 20;
const WAIT_MS = 120_000;

function why(args: string[], environment: Record<string, string>): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(
      process.execPath,
      [path.join(PROJECT_ROOT, 'cli', 'errata.mjs'), 'why', ...args, '--json'],
      { env: { ...process.env, ...environment }, maxBuffer: OUTPUT_BYTES_MAX, timeout: WAIT_MS },
      (error, text, problem) => {
        if (error === null) resolve(text);
        else
          reject(
            new Error(`errata why ${args.join(' ')}: ${problem || error.message}`, {
              cause: error,
            }),
          );
      },
    );
  });
}
