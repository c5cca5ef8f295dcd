/**
 * Sends alerts about an unattended lineage to a webhook: one POST of JSON, with the same bytes each
 * time. A receiver drops duplicates by `id` and verifies the signature, HMAC-SHA256 of the body
 * under a shared secret.
 */
import { createHmac } from 'node:crypto';
import type { Alert } from '../schemas/alert.ts';
import { AlertUndelivered } from '../schemas/failures.ts';

export type AlertActivities = ReturnType<typeof alertActivities>;

export interface Webhook {
  url: string;
  /** Null means unsigned. */
  secret: string | null;
}

/** A slower webhook is tried again. */
const ANSWER_WAIT_MS = 10_000;

export const SIGNATURE_HEADER = 'x-errata-signature';

export function alertActivities(webhook: Webhook | null) {
  return {
    /** Sends an alert; `told` is false without a webhook. Throws `AlertUndelivered`. */
    async alert(alert: Alert): Promise<{ told: boolean }> {
      if (webhook === null) return { told: false };
      const body = JSON.stringify({ ...alert, heal: fixOf(alert) });
      let status: number;
      try {
        status = await post(webhook, body);
      } catch (fault) {
        // The message omits the address, because many receivers treat it as a password.
        throw new AlertUndelivered(alert.id, `the webhook cannot be reached: ${causeOf(fault)}`);
      }
      if (status < 200 || status > 299)
        throw new AlertUndelivered(alert.id, `the webhook answers ${status}`);
      return { told: true };
    },
  };
}

async function post({ url, secret }: Webhook, body: string): Promise<number> {
  const headers: Record<string, string> = { 'content-type': 'application/json' };
  if (secret !== null)
    headers[SIGNATURE_HEADER] = `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`;
  const signal = AbortSignal.timeout(ANSWER_WAIT_MS);
  const response = await fetch(url, { method: 'POST', body, headers, redirect: 'manual', signal });
  await response.body?.cancel();
  return response.status;
}

/** Returns the command that resolves the alert. */
function fixOf({ kind, lineage, batchId }: Alert): string {
  const commands = {
    frozen: 'resume',
    quarantined: `resubmit quarantined --batch ${batchId}`,
    'batch-failed': 'failures',
  };
  return `errata ${commands[kind]} --lineage ${lineage}`;
}

function causeOf(fault: unknown): string {
  const cause = fault instanceof Error && fault.cause instanceof Error ? fault.cause : fault;
  return (
    (cause as NodeJS.ErrnoException).code ?? (cause instanceof Error ? cause.name : String(cause))
  );
}
