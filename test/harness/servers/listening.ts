/**
 * The addresses that a process listens on, from the kernel: the sockets among its open files,
 * looked up in the tables under /proc/net.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

/**
 * IP addresses with their ports, `127.0.0.1:9092` or `::1:9092`; an IPv4 address bound by a
 * dual-stack socket is reported as IPv4.
 */
export function listeningOn(pid: number): string[] {
  const inodes = new Set(socketsOf(pid));
  return ['tcp', 'tcp6'].flatMap((table) =>
    readFileSync(`/proc/${pid}/net/${table}`, 'utf8')
      .split('\n')
      .slice(1)
      .map((line) => line.trim().split(/\s+/))
      .filter((fields) => fields[3] === LISTEN && inodes.has(fields[9]!))
      .map((fields) => addressOf(fields[1]!)),
  );
}

/** TCP_LISTEN in the kernel's include/net/tcp_states.h. */
const LISTEN = '0A';

function socketsOf(pid: number): string[] {
  return readdirSync(`/proc/${pid}/fd`).flatMap((name) => {
    try {
      return /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${name}`))?.[1] ?? [];
    } catch {
      // The file was closed while we read the list.
      return [];
    }
  });
}

/**
 * Decodes the kernel's form: 32-bit words in the machine's byte order (little-endian), and the
 * port.
 */
function addressOf(field: string): string {
  const [words, port] = field.split(':') as [string, string];
  const bytes = (words.match(/.{8}/g) ?? []).flatMap((word) => [
    ...Buffer.from(word, 'hex').reverse(),
  ]);
  const mapped =
    bytes.length === 16 && bytes.slice(0, 12).every((byte, i) => byte === (i < 10 ? 0 : 255));
  const ip =
    bytes.length === 4 || mapped
      ? bytes.slice(-4).join('.')
      : new URL(
          `http://[${Buffer.from(bytes).toString('hex').match(/.{4}/g)!.join(':')}]`,
        ).hostname.slice(1, -1);
  return `${ip}:${Number.parseInt(port, 16)}`;
}
