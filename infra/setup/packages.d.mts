/** Resolves when the npm packages are there; throws when npm cannot bring them. */
export function ensurePackages(options: { readonly development: boolean }): Promise<void>;

/** Whether node_modules is a finished installation of what package-lock.json wants here. */
export function packagesAreThere(development: boolean, root?: string): boolean;
