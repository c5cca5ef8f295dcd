#!/usr/bin/env node
/** The `errata` command: runs the command line's TypeScript directly. */
import { register } from 'tsx/esm/api';

register();
const { main } = await import('./main.ts');
process.exitCode = await main(process.argv.slice(2));
