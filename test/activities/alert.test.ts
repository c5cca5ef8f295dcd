import { createHmac } from 'node:crypto';
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { alertActivities, SIGNATURE_HEADER } from '../../activities/alert.ts';
import type { Alert } from '../../schemas/alert.ts';

const ALERT: Alert = {
  id: 'news/000001-a/3/frozen',
  kind: 'frozen',
  lineage: 'news',
  reason: 'batch 000001-a failed 3 times',
  batchId: '000001-a',
  workflowId: 'edit-batch/news/1',
  at: 1_000,
};

const servers: Server[] = [];
afterEach(() => servers.splice(0).forEach((server) => server.close()));

/** A webhook on this machine that answers with this status. */
async function webhook(
  status: number,
): Promise<{ url: string; got: { body: string; headers: IncomingHttpHeaders }[] }> {
  const got: { body: string; headers: IncomingHttpHeaders }[] = [];
  const server = createServer((request, response) => {
    let body = '';
    request.setEncoding('utf8').on('data', (part: string) => (body += part));
    request.on('end', () => {
      got.push({ body, headers: request.headers });
      response.writeHead(status, status === 302 ? { location: '/elsewhere' } : {}).end();
    });
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook/secret-of-the-address`,
    got,
  };
}

describe('an alert', () => {
  it('is posted with its remedy and a signature, the same each time', async () => {
    const { url, got } = await webhook(204);
    const alerts = alertActivities({ url, secret: 'shared' });
    expect(await alerts.alert(ALERT)).toEqual({ told: true });
    await alerts.alert(ALERT);
    expect(got).toHaveLength(2);
    expect(got[0]!.body).toBe(got[1]!.body);
    expect(JSON.parse(got[0]!.body)).toEqual({ ...ALERT, heal: 'errata resume --lineage news' });
    const digest = createHmac('sha256', 'shared').update(got[0]!.body).digest('hex');
    expect(got[0]!.headers).toMatchObject({
      'content-type': 'application/json',
      [SIGNATURE_HEADER]: `sha256=${digest}`,
    });
  });

  it.each([500, 404, 302])(
    'is reported as not delivered on status %i, without repeating the address',
    async (status) => {
      const { url, got } = await webhook(status);
      const fault = await alertActivities({ url, secret: null })
        .alert(ALERT)
        .catch((error: unknown) => error as Error);
      expect(fault).toMatchObject({
        name: 'AlertUndelivered',
        message: expect.stringContaining(`answers ${status}`) as string,
      });
      expect(
        JSON.stringify({ ...(fault as Error), message: (fault as Error).message }),
      ).not.toContain('secret-of-the-address');
      expect(got).toHaveLength(1);
      expect(got[0]!.headers[SIGNATURE_HEADER]).toBeUndefined();
    },
  );

  it('is reported as not delivered when nothing listens', async () => {
    const { url } = await webhook(204);
    await new Promise((resolve) => servers.pop()!.close(resolve));
    await expect(alertActivities({ url, secret: null }).alert(ALERT)).rejects.toThrow(
      /cannot be reached: ECONNREFUSED/,
    );
  });

  it('is not sent without a webhook', async () => {
    expect(await alertActivities(null).alert(ALERT)).toEqual({ told: false });
  });
});
