export * from '../terminal/command-failure.ts';
