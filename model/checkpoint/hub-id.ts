/**
 * Whether a text is a hub id, `owner/name`: letters, digits, `_`, `.` and `-`. A path of the same
 * form is told apart by its being there.
 */
export function isHubId(text: string): boolean {
  return (
    /^[A-Za-z0-9][\w.-]{0,95}\/[A-Za-z0-9][\w.-]{0,95}$/.test(text) &&
    !text.includes('..') &&
    !text.endsWith('.git')
  );
}
