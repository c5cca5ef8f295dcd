/**
 * Tells a webhook what an unattended lineage did: one POST, JSON, the same bytes each time. Whoever
 * receives it may drop doubles by `id`, and know it for ours by the signature: HMAC-SHA256 of the
 * body under a secret that both know.
 */
import { createHmac } from 'node:crypto';
import type { Alert } from '../schemas/alert.ts';
import { AlertUndelivered } from '../schemas/failures.ts';

export type AlertActivities = ReturnType<typeof alertActivities>;

export interface Webhook {
  url: string;
  /** Null: not signed. */
  secret: string | null;
}

/** A webhook that takes longer is tried again. */
const ANSWER_WAIT_MS = 10_000;

export const SIGNATURE_HEADER = 'x-errata-signature';

export function alertActivities(webhook: Webhook | null) {
  return {
    /** `told` is false where there is no webhook. Throws `AlertUndelivered`. */
    async alert(alert: Alert): Promise<{ told: boolean }> {
      if (webhook === null) return { told: false };
      const body = JSON.stringify({ ...alert, heal: healOf(alert) });
      const signature =
        webhook.secret === null
          ? {}
          : {
              [SIGNATURE_HEADER]: `sha256=${createHmac('sha256', webhook.secret).update(body).digest('hex')}`,
            };
      const status = await statusOf(webhook.url, body, signature);
      if (status < 200 || status > 299)
        throw new AlertUndelivered(alert.id, `the webhook answers ${status}`);
      return { told: true };

      async function statusOf(
        url: string,
        text: string,
        headers: Record<string, string>,
      ): Promise<number> {
        try {
          const response = await fetch(url, {
            method: 'POST',
            body: text,
            headers: { 'content-type': 'application/json', ...headers },
            redirect: 'manual',
            signal: AbortSignal.timeout(ANSWER_WAIT_MS),
          });
          await response.body?.cancel();
          return response.status;
        } catch (fault) {
          // The address is as good as a password with many receivers: it is not repeated.
          throw new AlertUndelivered(alert.id, `the webhook cannot be reached: ${causeOf(fault)}`);
        }
      }
    },
  };
}

/** The one command that heals it. */
function healOf({ kind, lineage, batchId }: Alert): string {
  switch (kind) {
    case 'frozen':
      return `errata resume --lineage ${lineage}`;
    case 'quarantined':
      return `errata resubmit quarantined --batch ${batchId} --lineage ${lineage}`;
    case 'batch-failed':
      return `errata failures --lineage ${lineage}`;
  }
}

function causeOf(fault: unknown): string {
  const cause = fault instanceof Error && fault.cause instanceof Error ? fault.cause : fault;
  return (
    (cause as NodeJS.ErrnoException).code ?? (cause instanceof Error ? cause.name : String(cause))
  );
}
