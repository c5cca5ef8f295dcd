import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // TensorFlow's addon can be owned by one thread of a process, so each file gets a process.
    pool: 'forks',
    // A model with gradients takes some 2 GB, a broker and its clients a core: more at once only
    // get slower.
    maxWorkers: 2,
    // Not a measure of anything: on a loaded machine a server may take a minute to start.
    testTimeout: 180_000,
    hookTimeout: 180_000,
    teardownTimeout: 30_000,
    reporters: ['default', './test/harness/summary-reporter.ts'],
  },
});
