/**
 * Cleans up after tests. Everything under test/harness/ that starts something registers its end
 * here, so that tests need not.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, onTestFinished } from 'vitest';

type CleanUp = () => unknown;

const ofThisFile: CleanUp[] = [];

// A script that uses the harness outside the test runner has no such hook.
if (process.env['VITEST'] !== undefined)
  afterAll(async () => {
    const faults: unknown[] = [];
    for (const cleanUp of ofThisFile.splice(0).reverse()) {
      try {
        await cleanUp();
      } catch (fault) {
        faults.push(fault);
      }
    }
    if (faults.length > 0) throw new AggregateError(faults, 'clean-up failed');
  });

/**
 * Runs the clean-up when the current test is over, or the file if it was registered outside a test.
 * The last registered runs first.
 */
export function afterwards(cleanUp: CleanUp): void {
  try {
    onTestFinished(async () => void (await cleanUp()));
  } catch {
    // No test is running: this is a `beforeAll`, or the file is being loaded.
    ofThisFile.push(cleanUp);
  }
}

/** A new empty folder, removed afterwards. */
export function testFolder(): string {
  const folder = mkdtempSync(path.join(tmpdir(), 'errata-test-'));
  afterwards(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}
