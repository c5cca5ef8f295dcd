/**
 * `errata doctor` as data: is this machine able to run the system, and what of it is set up
 * already?
 */
import type { Device, Home } from '../../config/home.ts';
import { examine, PREREQUISITES, type Finding } from '../prerequisites.ts';
import { missingParts, PARTS, type Part } from '../provision/index.ts';

export interface Diagnosis {
  /** Whether nothing is missing that the set-up or the system needs. */
  readonly able: boolean;
  readonly findings: readonly Finding[];
  /** What the set-up has installed, and what it still would. */
  readonly parts: readonly { readonly part: Part; readonly installed: boolean }[];
  readonly home: string;
  readonly device: Device;
}

/** Examines the machine; takes about a second and changes nothing. */
export async function diagnose(home: Home, device: Device): Promise<Diagnosis> {
  const absent = new Set(missingParts(PARTS, home, device));
  const findings = await examine(PREREQUISITES, home, device);
  return {
    able: findings.every((finding) => finding.state !== 'missing'),
    findings,
    parts: PARTS.map((part) => ({ part, installed: !absent.has(part) })),
    home: home.root,
    device,
  };
}
