#!/usr/bin/env node
/** The `errata` command: reads the command line's TypeScript as it is. */
import { register } from 'tsx/esm/api';

register();
await import('./main.ts');
