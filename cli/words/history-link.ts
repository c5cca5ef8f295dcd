import type { Configuration } from '../../infra/config/configuration.ts';

/** A run's history in Temporal's web page; null where no page is known. */
export function historyLink(
  { temporal: { pageUrl, namespace } }: Pick<Configuration, 'temporal'>,
  { workflowId, runId }: { workflowId: string; runId: string },
): string | null {
  return pageUrl === null
    ? null
    : `${pageUrl.replace(/\/$/, '')}/namespaces/${encodeURIComponent(namespace)}/workflows/${encodeURIComponent(workflowId)}/${runId}/history`;
}
