/** The machine-wide lock, for TypeScript; see exclusive.mjs, which is plain JavaScript for the bootstrap's sake. */
export { ExclusiveTimeout, holdExclusively, type Exclusive } from './exclusive.mjs';
