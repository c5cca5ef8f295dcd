/** Tells whether node_modules is a complete installation of package-lock.json. */
export function packagesAreThere(development: boolean, root?: string): boolean;
