import picocolors from 'picocolors';

/** Text colours, always on: `Output` strips them if they are not wanted. */
export const { bold, cyan, dim, green, red, yellow } = picocolors.createColors(true);
