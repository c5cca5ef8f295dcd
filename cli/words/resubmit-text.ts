/** How items that are sent again read on a terminal, and in JSON. */
import type { ResubmitItem, ResubmitSent } from '../../operations/resubmit/resubmission.ts';
import { onOneLine } from '../../schemas/encoding/excerpt.ts';
import { shortened, statusText, type Output } from '../terminal/output.ts';

const REASON_CHARACTERS_MAX = 500;

export function itemAsJson(item: ResubmitItem): object {
  if (item.kind === 'kept') {
    const { of, reason, fix: mend, fixed: healed } = item;
    return { sent: false, of, reason, mend, healed };
  }
  const { kind, of, id, what, correction, repaired, from, likely } = item;
  return { kind, of, id, what, correction, repaired, from, likely };
}

export function itemText(item: ResubmitItem, output: Output): string {
  const { dim, green, yellow, red } = output.colours;
  const name = shortened(item.of, 60);
  if (item.kind === 'kept') {
    const fix = item.fix === null ? '' : `\n    ${dim('→')} ${item.fix}`;
    const reason = onOneLine(item.reason, REASON_CHARACTERS_MAX);
    return `${item.fixed ? dim('=') : red('✗')} ${name}: ${reason}${fix}`;
  }
  const { id, of, what, repaired, from } = item;
  const { good, text } = likelyText(item);
  const newId = id === null || id === of ? '' : ` → ${shortened(id, 60)}`;
  const origin = from === 'history' ? ', from the history of its batch' : '';
  const changes = repaired.length === 0 ? 'unchanged' : `with a new ${repaired.join(', ')}`;
  return [
    `${good ? green('+') : yellow('!')} ${name}${newId}  ${shortened(what, output.columns)}`,
    `    ${dim(`${changes}${origin}; ${text}`)}`,
  ].join('\n');
}

function likelyText({ likely }: ResubmitSent): { text: string; good: boolean } {
  switch (likely.kind) {
    case 'edited': {
      const ids = likely.supersedes.join(', ');
      const supersedes = ids === '' ? '' : `; it would supersede ${ids}`;
      return {
        text: `its target would be searched for, and the verdict decides${supersedes}`,
        good: true,
      };
    }
    case 'withdraws': {
      const ids = likely.removes.join(', ');
      return { text: `it would remove ${ids === '' ? 'nothing' : ids}`, good: ids !== '' };
    }
    case 'settled': {
      const { status, reason } = likely;
      const why = reason === null ? '' : `: ${onOneLine(reason, REASON_CHARACTERS_MAX)}`;
      return { text: `it would be ${statusText(status)}${why}`, good: false };
    }
    case 'dead-letter': {
      const why = onOneLine(likely.message, REASON_CHARACTERS_MAX);
      return { text: `it would become a dead letter again: ${why}`, good: false };
    }
  }
}

/** `2 were sent, 1 needs nothing, 1 cannot be.` */
export function summaryText(items: readonly ResubmitItem[], verb: string): string {
  const kept = items.filter((item) => item.kind === 'kept');
  const fixed = kept.filter((item) => item.fixed).length;
  const parts = [
    `${items.length - kept.length} ${verb}`,
    fixed > 0 ? `${fixed} need nothing` : '',
    kept.length > fixed ? `${kept.length - fixed} cannot be sent` : '',
  ];
  return `${parts.filter((part) => part !== '').join(', ')}.`;
}
