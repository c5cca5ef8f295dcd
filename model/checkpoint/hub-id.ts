/** Tells whether a text has the form of a hub id, `owner/name`. A path may have it too. */
export function isHubId(text: string): boolean {
  return (
    /^[A-Za-z0-9][\w.-]{0,95}\/[A-Za-z0-9][\w.-]{0,95}$/.test(text) &&
    !text.includes('..') &&
    !text.endsWith('.git')
  );
}
