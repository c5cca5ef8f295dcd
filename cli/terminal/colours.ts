import picocolors from 'picocolors';

/** Colours of text, always on: `Output` removes them where they are not wanted. */
export const { bold, cyan, dim, green, red, yellow } = picocolors.createColors(true);
