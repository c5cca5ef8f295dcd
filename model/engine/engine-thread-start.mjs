/**
 * The first file of the engine's thread. `--import tsx` registers its loader in the main thread
 * alone (Node 20), so the thread registers it for itself before it loads TypeScript.
 */
import { register } from 'tsx/esm/api';

register();
await import('./engine-thread.ts');
