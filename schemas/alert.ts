/** The body of a POST to the workflow worker's webhook, about an unattended lineage. */

export interface Alert {
  /** The same in each delivery, so that a receiver can drop duplicates. */
  id: string;
  /**
   * `batch-failed`: a batch's workflow failed. `quarantined`: a batch was given up and its
   * revisions quarantined. `frozen`: no batch starts until an operator resumes the lineage.
   */
  kind: 'batch-failed' | 'quarantined' | 'frozen';
  lineage: string;
  reason: string;
  batchId: string;
  workflowId: string;
  /** Milliseconds since 1970. */
  at: number;
}
