#!/usr/bin/env node
/** The `errata` command: reads the command line's TypeScript as it is. */
import { register } from 'tsx/esm/api';

register();
const { main } = await import('./main.ts');
process.exitCode = await main(process.argv.slice(2));
